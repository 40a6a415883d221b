package engine

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// stillWorks fails unless an ordinary flow can be made and used.
func (p *player) stillWorks(port uint16) {
	p.t.Helper()
	c := p.client(port)
	c.seq = 77
	before := len(p.events(events.TCPRequest))
	c.syn()
	var flow uint64
	eventually(p.t, "the request of an ordinary flow", func() bool {
		for _, e := range p.events(events.TCPRequest)[before:] {
			if e.SourcePort == port && e.DestPort == 443 {
				flow = e.Flow
			}
		}
		return flow != 0
	})
	up := p.join(flow, nil)
	c.answerSYNACK()
	c.transmit(header.TCPFlagAck|header.TCPFlagPsh, []byte("ordinary"))
	readExactly(p.t, up, []byte("ordinary"))
	_, err := up.Write([]byte("flow"))
	must(p.t, err)
	if r := c.mine("data", func(t header.TCP) bool { return len(t.Payload()) > 0 }); string(r.Payload()) != "flow" {
		p.t.Errorf("the app got %q", r.Payload())
	}
}

// Packets that once brought a stack down do no harm: what comes out has right
// checksums, and an ordinary flow works afterwards.
func TestOddPackets(t *testing.T) {
	for _, mode := range []Mode{Full, Simple} {
		for _, vnet := range []bool{false, true} {
			for _, six := range []bool{false, true} {
				v := variant{mode: mode, vnet: vnet, six: six}
				t.Run(v.String(), func(t *testing.T) {
					p := newPlayer(newWorld(t, v))
					for name, packets := range oddPackets(v) {
						for _, packet := range packets {
							p.send(packet)
						}
						p.mark(func(received) {})
						if t.Failed() {
							t.Fatal(name)
						}
					}
					p.stillWorks(51000)
				})
			}
		}
	}
}

func oddPackets(v variant) map[string][][]byte {
	app, far := netip.AddrPortFrom(v.app(), 5000), netip.AddrPortFrom(v.far(), 5001)
	odd := map[string][][]byte{}
	for protocol := range 256 {
		odd["every protocol number"] = append(odd["every protocol number"],
			ipPacket(v.app(), v.far(), uint8(protocol), make([]byte, 40), ipOptions{}),
			ipPacket(v.app(), v.far(), uint8(protocol), nil, ipOptions{}),
			ipPacket(v.app(), v.gateway(), uint8(protocol), make([]byte, 40), ipOptions{}))
	}
	whole := segment{source: app, destination: far, seq: 1, flags: header.TCPFlagSyn, payload: make([]byte, 20)}.packet()
	if v.six {
		whole = segment{source: app, destination: far, seq: 1, flags: header.TCPFlagSyn}.packet()
	}
	for size := 1; size <= 60 && size <= len(whole); size++ {
		odd["runts"] = append(odd["runts"], whole[:size])
	}
	odd["a datagram without a checksum"] = [][]byte{
		udpPacket(app, far, []byte("x"), true, ipOptions{}), udpPacket(app, netip.AddrPortFrom(v.gateway(), 53), []byte("x"), true, ipOptions{}),
		udpPacket(app, far, nil, true, ipOptions{}),
	}
	odd["from and to odd addresses"] = oddAddresses(v)
	tcp := segment{source: app, destination: far, seq: 9, flags: header.TCPFlagSyn, payload: make([]byte, 100)}.tcp()
	if !v.six {
		for _, options := range oddIPv4Options() {
			for _, to := range []netip.Addr{v.far(), v.gateway()} {
				protocol, ping := echoBytes(v.app(), to, 3, []byte("options"))
				odd["IPv4 options"] = append(odd["IPv4 options"],
					ipPacket(v.app(), to, 6, tcp, ipOptions{options: options}),
					ipPacket(v.app(), to, protocol, ping, ipOptions{options: options}),
					ipPacket(v.app(), to, 99, ping, ipOptions{options: options}))
			}
		}
		for size := range byte(16) { // a header length that lies
			packet := ipPacket(v.app(), v.far(), 6, tcp, ipOptions{})
			packet[0] = 0x40 | size
			sumIPv4(packet)
			odd["IPv4 header lengths"] = append(odd["IPv4 header lengths"], packet)
		}
		odd["fragments of TCP"] = [][]byte{
			ipPacket(v.app(), v.far(), 6, tcp[:16], ipOptions{more: true, identification: 7}),
			ipPacket(v.app(), v.far(), 6, tcp[8:80], ipOptions{more: true, fragmentOffset: 8, identification: 7}), // overlaps
			ipPacket(v.app(), v.far(), 6, tcp[16:], ipOptions{fragmentOffset: 16, identification: 7}),
			ipPacket(v.app(), v.far(), 6, tcp[:8], ipOptions{more: true, identification: 8}),
			ipPacket(v.app(), v.far(), 6, tcp[8:], ipOptions{fragmentOffset: 8, identification: 8}),
			ipPacket(v.app(), v.far(), 6, tcp, ipOptions{fragmentOffset: 65528, identification: 9}), // past the end
			ipPacket(v.app(), v.far(), 6, nil, ipOptions{more: true, identification: 10}),
		}
		return odd
	}
	fragment := func(offset uint16, more byte, id byte) ipOptions {
		return ipOptions{next: 44, options: []byte{6, 0, byte(offset >> 8), byte(offset) | more, 0, 0, 0, id}}
	}
	odd["fragments of TCP"] = [][]byte{
		ipPacket(v.app(), v.far(), 6, tcp[:16], fragment(0, 1, 7)),
		ipPacket(v.app(), v.far(), 6, tcp[8:80], fragment(8, 1, 7)), // overlaps
		ipPacket(v.app(), v.far(), 6, tcp[16:], fragment(16, 0, 7)),
		ipPacket(v.app(), v.far(), 6, tcp[:8], fragment(0, 1, 8)),
		ipPacket(v.app(), v.far(), 6, tcp[8:], fragment(8, 0, 8)),
		ipPacket(v.app(), v.far(), 6, tcp, fragment(65528, 0, 9)), // past the end
		ipPacket(v.app(), v.far(), 6, nil, fragment(0, 1, 10)),
		ipPacket(v.app(), v.far(), 6, tcp, fragment(0, 0, 11)), // atomic (RFC 6946)
	}
	for _, next := range []byte{0, 43, 44, 50, 51, 59, 60, 135, 139, 253} {
		for _, size := range []byte{0, 1, 255} { // in units of 8, less the first
			for _, kind := range []byte{0, 1, 5, 0x3e, 0x7e, 0xbe, 0xc2, 0xfe} {
				options := []byte{6, size, kind, 4, 0, 0, 0, 0}
				odd["IPv6 extension headers"] = append(odd["IPv6 extension headers"],
					ipPacket(v.app(), v.far(), 6, tcp, ipOptions{next: next, options: options}),
					ipPacket(v.app(), v.gateway(), 6, nil, ipOptions{next: next, options: options[:4]}))
			}
		}
		chain := []byte{}
		for range 100 {
			chain = append(chain, next, 0, 1, 4, 0, 0, 0, 0)
		}
		odd["IPv6 extension headers"] = append(odd["IPv6 extension headers"], ipPacket(v.app(), v.far(), 6, tcp, ipOptions{next: next, options: chain}))
	}
	return odd
}

func oddIPv4Options() [][]byte {
	odd := [][]byte{
		{0, 0, 0, 0}, {1, 1, 1, 1}, {1, 0, 1, 1}, // end, no-operation
		{7, 3, 4, 0}, {7, 7, 4, 0, 0, 0, 0, 0}, {7, 39, 4}, {7, 3, 0, 0}, {7, 2, 0, 0}, // record route
		{68, 4, 5, 0}, {68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {68, 8, 9, 1, 0, 0, 0, 0}, {68, 5, 5, 0xf0}, // timestamp
		{131, 3, 4, 0}, {137, 7, 4, 203, 0, 113, 9, 0}, // source routes
		{148, 4, 0, 0}, {148, 3, 0, 0}, // router alert
		{7, 0, 4, 0}, {7, 1, 4, 0}, {68}, {7}, {255, 255, 255, 255}, {1, 1, 1, 7}, {1, 1, 68, 200},
	}
	long := make([]byte, 40)
	for i := range long {
		long[i] = 1
	}
	return append(odd, long)
}

func oddAddresses(v variant) (packets [][]byte) {
	addresses := []string{"0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "198.18.0.1", "198.18.0.2", "198.18.0.3", "240.0.0.1"}
	if v.six {
		addresses = []string{"::", "::1", "ff02::1", "ff0e::1", "fe80::1", "fdfe:dcba:9876::1", "fdfe:dcba:9876::2", "::ffff:1.2.3.4"}
	}
	for i, from := range addresses {
		for _, to := range addresses {
			source, destination := netip.MustParseAddr(from), netip.MustParseAddr(to)
			s := segment{source: netip.AddrPortFrom(source, uint16(100+i)), destination: netip.AddrPortFrom(destination, uint16(100+i)), flags: header.TCPFlagSyn}
			packets = append(packets, s.packet(), echoPacket(source, destination, 1, []byte("x")),
				udpPacket(s.source, s.destination, []byte("x"), false, ipOptions{}))
			s.flags = header.TCPFlagAck
			packets = append(packets, s.packet())
		}
	}
	return packets
}

// A virtio header that lies about its packet does no harm, nor does one without
// a packet.
func TestVirtioHeadersThatLie(t *testing.T) {
	forEach(t, []variant{{mode: Full, vnet: true}, {mode: Simple, vnet: true, six: true}}, func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		random := rand.New(rand.NewPCG(1, 2))
		for size := 1; size <= virtioSize; size++ {
			p.sendRaw(make([]byte, size))
		}
		for range 500 {
			h := make([]byte, virtioSize)
			h[0], h[1] = byte(random.IntN(8)), byte(random.IntN(6))
			for i := 2; i < len(h); i += 2 {
				binary.NativeEndian.PutUint16(h[i:], uint16(random.Uint32()>>random.IntN(32)))
			}
			p.sendRaw(append(h, c.segment(header.TCPFlagSyn, make([]byte, random.IntN(3000))).packet()...))
		}
		p.mark(func(received) {})
		if n := p.stats().DropMalformed; n < virtioSize {
			t.Errorf("%d were counted as malformed", n)
		}
		p.stillWorks(51000)
	})
}

// mutate damages a packet in a few places; half the time it makes the checksums
// right again, so that the damage gets past them.
func mutate(random *rand.Rand, packet []byte) []byte {
	for range 1 + random.IntN(4) {
		switch random.IntN(6) {
		case 0:
			packet = packet[:random.IntN(len(packet)+1)]
		case 1:
			packet = append(packet, make([]byte, random.IntN(64))...)
		default:
			if len(packet) > 0 {
				at := random.IntN(min(len(packet), 80))
				packet[at] = byte(random.Uint32())
			}
		}
		if len(packet) == 0 {
			return packet
		}
	}
	if random.IntN(4) > 0 {
		repair(packet)
	}
	return packet
}

// repair makes lengths and checksums right as far as there is room for them.
func repair(packet []byte) {
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		ip := header.IPv4(packet)
		if len(packet) < header.IPv4MinimumSize || int(ip.HeaderLength()) < header.IPv4MinimumSize || int(ip.HeaderLength()) > len(packet) {
			return
		}
		ip.SetTotalLength(uint16(len(packet)))
		sumIPv4(packet)
		source, _ := netip.AddrFromSlice(ip.SourceAddressSlice())
		destination, _ := netip.AddrFromSlice(ip.DestinationAddressSlice())
		repairTransport(source, destination, ip.Protocol(), packet[ip.HeaderLength():])
	case header.IPv6Version:
		ip := header.IPv6(packet)
		if len(packet) < header.IPv6MinimumSize {
			return
		}
		ip.SetPayloadLength(uint16(len(packet) - header.IPv6MinimumSize))
		source, _ := netip.AddrFromSlice(ip.SourceAddressSlice())
		destination, _ := netip.AddrFromSlice(ip.DestinationAddressSlice())
		repairTransport(source, destination, ip.NextHeader(), packet[header.IPv6MinimumSize:])
	}
}

func repairTransport(source, destination netip.Addr, protocol uint8, transport []byte) {
	at, ok := map[uint8]int{1: 2, 6: 16, 17: 6, 58: 2}[protocol]
	if !ok || len(transport) < at+2 {
		return
	}
	sum := pseudo(source, destination, protocol, len(transport))
	if protocol == 1 {
		sum = 0
	}
	binary.BigEndian.PutUint16(transport[at:], 0)
	binary.BigEndian.PutUint16(transport[at:], ^checksum.Checksum(transport, sum))
}

// Tens of thousands of damaged packets, at waiting and at established flows,
// bring out nothing with a wrong checksum, leave nothing behind, and an
// ordinary flow works afterwards.
func TestMutatedPackets(t *testing.T) {
	packets := 5000
	if testing.Short() {
		packets = 1000
	}
	forEach(t, []variant{{mode: Full}, {mode: Full, vnet: true, six: true}, {mode: Simple, vnet: true}, {mode: Simple, six: true}}, func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		fds := openFDs(t)
		random := rand.New(rand.NewPCG(6, uint64(v.mode)))
		c := p.client(40001)
		j := c.connect(1)
		go func() { _, _ = j.up.ReadFrom(neverEnding{}) }()
		joins := 0
		w.do(func(e *Engine) {
			w.decide = func(event events.Event) {
				switch how := random.IntN(8); {
				case how == 0 && joins < 50:
					joins++
					ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					if err == nil {
						_ = e.Join(event.Flow, ends[0], []byte("hello"), 0)
						_ = unix.Close(ends[1])
					}
				case how < 5:
					_ = e.Refuse(event.Flow, Refusal(how%5))
				case how < 7:
					_ = e.Drop(event.Flow)
				}
			}
		})
		seeds := mutationSeeds(v, c)
		choice := rand.New(rand.NewPCG(7, 8)) // the decisions draw on another thread
		for i := range packets {
			seed := seeds[choice.IntN(len(seeds))]
			p.send(mutate(choice, append([]byte(nil), seed...)))
			if i%256 == 0 {
				p.settle()
				for {
					if _, ok := p.take(); !ok {
						break
					}
				}
			}
		}
		p.settle()
		w.do(func(*Engine) { w.decide = nil })
		p.stillWorks(51000)
		w.close()
		_ = j.up.Close()
		eventually(t, "the sockets to be closed", func() bool { return openFDs(t) <= fds })
	})
}

// A TCP segment whose first fragment does not hold the TCP header is dropped.
func TestTinyFirstFragment(t *testing.T) {
	v := families()[0]
	p := newPlayer(newWorld(t, v))
	tcp := segment{
		source: netip.AddrPortFrom(v.app(), 5000), destination: netip.AddrPortFrom(v.far(), 5001),
		seq: 9, flags: header.TCPFlagSyn, payload: make([]byte, 100),
	}.tcp()
	for id, size := range map[uint16]int{1: 8, 2: 16} {
		p.send(ipPacket(v.app(), v.far(), 6, tcp[:size], ipOptions{more: true, identification: id}))
		p.send(ipPacket(v.app(), v.far(), 6, tcp[size:], ipOptions{fragmentOffset: uint16(size), identification: id}))
	}
	p.silence()
	if n := len(p.events(events.TCPRequest)); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// neverEnding is an upstream that talks now and then.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond) // its pace; no test waits for it
	return copy(p, "and on and on "), nil
}

// mutationSeeds are packets of every kind that the engine knows.
func mutationSeeds(v variant, c *client) [][]byte {
	app, far := netip.AddrPortFrom(v.app(), 5000), netip.AddrPortFrom(v.far(), 5001)
	seeds := [][]byte{
		segment{source: app, destination: far, seq: 1, flags: header.TCPFlagSyn, options: synOptions}.packet(),
		segment{source: app, destination: far, seq: 2, ack: 1, flags: header.TCPFlagRst}.packet(),
		c.segment(header.TCPFlagAck, []byte("payload of a flow")).packet(),
		c.segment(header.TCPFlagAck|header.TCPFlagPsh, make([]byte, 1400)).packet(),
		udpPacket(app, far, []byte("datagram"), false, ipOptions{}),
		udpPacket(app, netip.AddrPortFrom(v.gateway(), 53), []byte("datagram"), true, ipOptions{}),
		echoPacket(v.app(), v.gateway(), 1, []byte("ping")),
		echoPacket(v.app(), v.far(), 1, []byte("ping")),
	}
	seeds = append(seeds, datagramSeeds(v)...)
	// An ICMP error about the flow.
	quoted := segment{source: c.remote, destination: c.local, seq: c.ack, flags: header.TCPFlagAck}.packet()
	icmp := append([]byte{pick[byte](v.six, 1, 3), 1, 0, 0, 0, 0, 0, 0}, quoted...)
	seeds = append(seeds, ipPacket(v.app(), v.far(), pick[uint8](v.six, 58, 1), icmp, ipOptions{}))
	for _, kind := range []byte{2, 133, 134, 135, 136, 137, 143} {
		body := append([]byte{kind, 0, 0, 0, 0, 0, 5, 0}, make([]byte, 40)...)
		seeds = append(seeds, ipPacket(v.app(), v.gateway(), pick[uint8](v.six, 58, 1), body, ipOptions{}))
	}
	odd := oddPackets(v)
	for _, name := range slices.Sorted(maps.Keys(odd)) {
		packets := odd[name]
		for i := 0; i < len(packets); i += 1 + len(packets)/16 {
			seeds = append(seeds, packets[i])
		}
	}
	for _, seed := range seeds {
		repair(seed)
	}
	return seeds
}
