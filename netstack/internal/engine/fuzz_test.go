package engine

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// FuzzPacket: glance takes any bytes, what it finds is what the bytes say, and
// the engine delivers them without a panic or a bad packet coming out.
// `go test -fuzz FuzzPacket ./internal/engine` looks for more than the seeds.
func FuzzPacket(f *testing.F) {
	for _, v := range families() {
		c := &client{player: &player{world: &world{v: v}}, local: netip.AddrPortFrom(v.app(), 4000), remote: netip.AddrPortFrom(v.far(), 443)}
		for _, seed := range mutationSeeds(v, c) {
			f.Add(seed)
		}
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		f.Fatal(err)
	}
	e, err := Open(Config{
		TunFD: fds[0], MTU: testMTU, Mode: Full, PendingLimit: 64, FlowLimit: 64,
		HalfOpenLimit: 64, HalfOpen: time.Minute, Associations: 4, DatagramFlows: 64, UDPTimeout: time.Minute, Gateway4: gatewayAddress4, Gateway6: gatewayAddress6,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(e.Close)
	if err := e.Listen(uint32(header.UDPProtocolNumber), 53); err != nil {
		f.Fatal(err)
	}
	verdict := newVerdicts(f, 1)
	out := make([]byte, 70000)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if tuple, kind := glance(packet); kind == kindTCP || kind == kindUDP {
			size := pick(tuple.six, header.IPv6MinimumSize, int(packet[0]&15)*4)
			if len(packet) < size+pick(kind == kindTCP, header.TCPMinimumSize, header.UDPMinimumSize) {
				t.Fatalf("kind %d in %d bytes", kind, len(packet))
			}
			// The ports stand in the same place.
			if got := header.UDP(packet[size:]); got.SourcePort() != tuple.sourcePort || got.DestinationPort() != tuple.destinationPort {
				t.Fatalf("%+v is not what the packet says", tuple)
			}
		}
		if len(packet) == 0 || len(packet) > 65535 {
			return
		}
		if err := unix.Send(fds[1], packet, unix.MSG_NOSIGNAL); err != nil {
			t.Skip(err)
		}
		if _, errno := e.Pump(16); errno != 0 {
			t.Fatal(errno)
		}
		var requests []events.Event
		e.Drain(64, func(event *events.Event) { requests = append(requests, *event) })
		e.pending.clear()
		for _, request := range requests {
			verdict.of(e, request)
		}
		e.Datagrams().Services.Receive(out)
		for {
			n, err := unix.Read(fds[1], out)
			if err != nil {
				break
			}
			if _, err := dissect(bytes.Clone(out[:n]), false); err != nil {
				t.Fatalf("%s: % x", err, out[:n])
			}
		}
	})
}
