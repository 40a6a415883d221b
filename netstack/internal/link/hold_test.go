package link

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// tcpPacket is one to a port, of either family.
func tcpPacket(six bool, port uint16, flags header.TCPFlags, payload string) *stack.PacketBuffer {
	size := header.IPv4MinimumSize
	if six {
		size = header.IPv6MinimumSize
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: size + header.TCPMinimumSize, Payload: buffer.MakeWithData([]byte(payload)),
	})
	tcp := header.TCP(p.TransportHeader().Push(header.TCPMinimumSize))
	tcp.Encode(&header.TCPFields{SrcPort: 443, DstPort: port, DataOffset: header.TCPMinimumSize, Flags: flags})
	p.TransportProtocolNumber = header.TCPProtocolNumber
	network := p.NetworkHeader().Push(size)
	p.NetworkProtocolNumber = header.IPv4ProtocolNumber
	network[0] = 0x45
	if six {
		p.NetworkProtocolNumber = header.IPv6ProtocolNumber
		network[0] = 0x60
	}
	return p
}

// segments are the packets that came out, each as its port, flags and payload.
func segments(fd int, six bool) string {
	var found []string
	raw := make([]byte, 2000)
	for {
		n, err := unix.Read(fd, raw)
		if err != nil {
			return strings.Join(found, ", ")
		}
		tcp := raw[header.IPv4MinimumSize:n]
		if six {
			tcp = raw[header.IPv6MinimumSize:n]
		}
		flags := header.TCP(tcp).Flags()
		found = append(found, strings.TrimSpace(fmt.Sprintf("%d %s %s", binary.BigEndian.Uint16(tcp[2:]),
			strings.TrimSpace(flags.String()), tcp[header.TCPMinimumSize:])))
	}
}

// An acknowledgement that may be kept goes with the data or the end that comes next, before
// anything else of its connection, and by itself when it is flushed. Other packets take no
// notice of it.
func TestHeld(t *testing.T) {
	const ack, push, fin, rst = header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagPsh,
		header.TCPFlagAck | header.TCPFlagFin, header.TCPFlagAck | header.TCPFlagRst
	type out struct {
		port    uint16
		flags   header.TCPFlags
		payload string
	}
	for name, each := range map[string]struct {
		held []out
		then []out
		want string
	}{
		"data":       {[]out{{1, ack, ""}}, []out{{1, push, "x"}}, "1 PA x"},
		"an end":     {[]out{{1, ack, ""}}, []out{{1, fin, ""}}, "1 F A"},
		"a reset":    {[]out{{1, ack, ""}}, []out{{1, rst, ""}}, "1 A, 1 R A"},
		"others":     {[]out{{1, ack, ""}}, []out{{2, push, "x"}, {2, ack, ""}}, "2 PA x, 2 A, 1 A"},
		"another":    {[]out{{1, ack, ""}, {1, ack, ""}}, nil, "1 A, 1 A"},
		"data first": {[]out{{1, push, "x"}}, []out{{1, ack, ""}}, "1 PA x, 1 A"},
		"nothing":    {[]out{{1, ack, ""}}, nil, "1 A"},
	} {
		for _, six := range []bool{false, true} {
			e, far := pair(t, false)
			send := func(all []out) {
				for _, o := range all {
					p := tcpPacket(six, o.port, o.flags, o.payload)
					write(e, p)
				}
			}
			e.DeliverHeld(func() { send(each.held) })
			send(each.then)
			e.FlushHeld(0, time.Now())
			got := strings.Join(strings.Fields(strings.ReplaceAll(segments(far, six), "  ", " ")), " ")
			if got != each.want {
				t.Errorf("%s, IPv6 %t: %q, not %q", name, six, got, each.want)
			}
			if e.Holds() {
				t.Errorf("%s: something is still kept", name)
			}
		}
	}
}

// What is kept is not flushed before its time, and not lost when the endpoint is closed.
func TestHeldFor(t *testing.T) {
	e, far := pair(t, false)
	e.DeliverHeld(func() { write(e, tcpPacket(false, 1, header.TCPFlagAck, "")) })
	if e.FlushHeld(time.Hour, time.Now()) || !e.Holds() {
		t.Error("it was flushed at once")
	}
	if !e.FlushHeld(time.Hour, time.Now().Add(2*time.Hour)) || e.Holds() {
		t.Error("it was not flushed")
	}
	if got := segments(far, false); got == "" {
		t.Error("nothing came out")
	}
	e.DeliverHeld(func() { write(e, tcpPacket(false, 1, header.TCPFlagAck, "")) })
	e.Close()
	if e.Holds() {
		t.Error("a closed endpoint keeps it")
	}
}
