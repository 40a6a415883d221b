package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// sendSegmented sends a payload as datagrams of that many bytes in one packet, or
// with segment 0 as one. Their checksums are left to the other side.
func (p *player) sendSegmented(source, destination netip.AddrPort, payload []byte, segment int) {
	p.t.Helper()
	p.sendOdd(udpPacket(source, destination, payload, true, ipOptions{}), segment)
}

func (p *player) sendOdd(packet []byte, segment int) {
	p.t.Helper()
	h := make([]byte, virtioSize)
	h[0] = 1
	order := binary.NativeEndian
	ip := pick(packet[0]>>4 == 6, header.IPv6MinimumSize, header.IPv4MinimumSize)
	order.PutUint16(h[6:], uint16(ip))
	order.PutUint16(h[8:], 6)
	packet = bytes.Clone(packet)
	copy(packet[ip+6:], []byte{0x12, 0x34}) // for the pseudo header's sum, which nobody here needs
	if segment > 0 {
		h[1] = gsoUDP
		order.PutUint16(h[2:], uint16(ip+header.UDPMinimumSize))
		order.PutUint16(h[4:], uint16(segment))
	}
	p.sendRaw(append(h, packet...))
}

func vnetVariants() []variant {
	return []variant{{mode: Full, vnet: true}, {mode: Full, vnet: true, six: true}, {mode: Simple, vnet: true}, {mode: Simple, vnet: true, six: true}}
}

// Datagrams that the kernel put into one packet leave as single ones, each whole:
// the ones that waited and those that did not.
func TestDatagramsTogetherUp(t *testing.T) {
	forEach(t, vnetVariants(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		p.socksFlow(o, app, far)
		up := uint64(1)
		for _, c := range []struct{ size, segment int }{{3000, 1000}, {3001, 1000}, {64, 1}, {1, 1000}, {64 * 900, 900}, {50 * 1200, 1200}, {4001, 2000}} {
			payload := pattern(c.size, c.size)
			p.sendSegmented(app, far, payload, c.segment)
			for len(payload) > 0 {
				n := min(c.segment, len(payload))
				if b, _ := o.read(); !bytes.Equal(b, framed(far, payload[:n])) {
					t.Fatalf("%+v: %d bytes that are not those", c, len(b))
				}
				payload = payload[n:]
				up++
			}
		}
		o.silence()
		if s := w.stats(); s.DatagramsUp != up || s.DropSend != 0 || s.DropMalformed != 0 {
			t.Errorf("%d up: %+v", up, s)
		}
	})
}

// Datagrams in one packet that make a request each count for the queue.
func TestDatagramsTogetherUndecided(t *testing.T) {
	forEach(t, vnetVariants()[:2], func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		p.sendSegmented(app, far, pattern(0, 20*100), 100)
		p.event(events.UDPRequest, 1)
		p.settle()
		if n := p.stats().DropUndecided; n != 4 {
			t.Errorf("%d dropped, not 4", n)
		}
	})
}

// Datagrams together behind headers that are not plain are dropped: nobody here
// takes them apart.
func TestDatagramsTogetherBehindOddHeaders(t *testing.T) {
	forEach(t, vnetVariants(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		odd := []ipOptions{{more: true, identification: 3}, {fragmentOffset: 1480, identification: 3}}
		if v.six {
			odd = []ipOptions{
				{next: 60, options: []byte{17, 0, 1, 4, 0, 0, 0, 0}},
				{next: 44, options: []byte{17, 0, 0, 1, 0, 0, 0, 9}},
			}
		}
		for _, o := range odd {
			p.sendOdd(udpPacket(app, far, pattern(0, 3000), false, o), 1000)
		}
		p.silence()
		if n := p.stats().DropMalformed; n != 2 || len(p.events(events.UDPRequest)) != 0 {
			t.Errorf("%d dropped, %d requests", n, len(p.events(events.UDPRequest)))
		}
	})
}

// down has many replies wait for the loop, and takes what comes out of the device.
func (p *player) down(o *outside, leg netip.AddrPort, from []netip.AddrPort, payloads [][]byte) {
	p.t.Helper()
	release := p.holdLoops()
	for i, payload := range payloads {
		o.write(framed(from[i%len(from)], payload), leg)
	}
	release()
	for i, payload := range payloads {
		if g := p.datagram(); g.source != from[i%len(from)] || !bytes.Equal(g.payload, payload) {
			p.t.Fatalf("datagram %d: %d bytes from %s, not the %d of %s", i, len(g.payload), g.source, len(payload), from[i%len(from)])
		}
	}
}

// Replies that are received together come out in order, each whole, whatever
// their sizes; with offload those of one size and sender share packets.
func TestDatagramsTogetherDown(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		_, leg := p.socksFlow(o, app, far)
		sizes := func(size ...int) (payloads [][]byte) {
			for i, n := range size {
				payloads = append(payloads, pattern(i*7, n))
			}
			return payloads
		}
		same := make([]int, 200)
		for i := range same {
			same[i] = 1200
		}
		before := w.stats().PacketsOut
		p.down(o, leg, []netip.AddrPort{far}, sizes(same...))
		packets := w.stats().PacketsOut - before
		if v.vnet && packets > 20 || !v.vnet && packets != 200 {
			t.Errorf("%d packets for 200 datagrams", packets)
		}
		third := netip.AddrPortFrom(far.Addr(), far.Port()+1)
		p.down(o, leg, []netip.AddrPort{far, third}, sizes(same...))
		p.down(o, leg, []netip.AddrPort{far}, sizes(100, 100, 50, 100, 100, 0, 0, 1, 1, 200, 1, 1472, 1472, 3000, 3000, 5, 5, 4, 6))
		tiny := make([]int, 150)
		p.down(o, leg, []netip.AddrPort{far}, sizes(tiny...))
		for i := range tiny {
			tiny[i] = 1
		}
		p.down(o, leg, []netip.AddrPort{far}, sizes(tiny...))
		if s := w.stats(); s.DatagramsDown != 200*2+150*2+19 || s.DropWrite != 0 || s.DropReply != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// What the leg's kernel puts together is taken apart again: each datagram has the
// relay's header of its own.
func TestLegReceivesTogether(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		_, leg := p.socksFlow(o, app, far)
		var together []byte
		const size, count = 500, 40
		for i := range count {
			together = append(together, framed(far, pattern(i, size))...)
		}
		raw, err := o.conn.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) {
			each := size + len(socksHeader(far))
			must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, each))
		}))
		o.write(append(together, framed(far, []byte("short"))...), leg)
		for i := range count {
			if g := p.datagram(); g.source != far || !bytes.Equal(g.payload, pattern(i, size)) {
				t.Fatalf("datagram %d: %d bytes from %s", i, len(g.payload), g.source)
			}
		}
		if g := p.datagram(); string(g.payload) != "short" {
			t.Errorf("%q", g.payload)
		}
	})
}
