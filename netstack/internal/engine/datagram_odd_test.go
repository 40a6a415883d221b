package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// datagramWith is a datagram whose UDP header was changed after it was summed, or
// before, if it is to have a right checksum.
func datagramWith(app, far netip.AddrPort, payload []byte, change func(header.UDP), sum bool) []byte {
	packet := udpPacket(app, far, payload, false, ipOptions{})
	at := pick(app.Addr().Is6(), header.IPv6MinimumSize, header.IPv4MinimumSize)
	change(header.UDP(packet[at:]))
	if sum {
		repairTransport(app.Addr(), far.Addr(), 17, packet[at:])
	}
	return packet
}

// A datagram without a checksum is one in IPv4 (RFC 768), and none in IPv6 (RFC
// 8200, section 8.1).
func TestDatagramWithoutAChecksum(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		p.send(udpPacket(app, far, []byte("x"), true, ipOptions{}))
		p.silence()
		want := pick(v.six, 0, 1)
		if s := p.stats(); len(p.events(events.UDPRequest)) != want || s.DropMalformed != uint64(1-want) {
			t.Errorf("%d requests, %+v", len(p.events(events.UDPRequest)), s)
		}
	})
}

// A datagram with a wrong checksum is dropped and counted, to a flow, to nobody and
// to the gateway; one that the kernel vouches for is taken as it is.
func TestDatagramWithAWrongChecksum(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		p.socksFlow(o, app, far)
		w.listen(17, 53)
		wrong := func(far netip.AddrPort) []byte {
			return datagramWith(app, far, []byte("x"), func(u header.UDP) { u.SetChecksum(u.Checksum() ^ 0x100) }, false)
		}
		p.send(wrong(far))
		p.send(wrong(netip.AddrPortFrom(far.Addr(), 99)))
		p.send(wrong(netip.AddrPortFrom(v.gateway(), 53)))
		p.silence()
		o.silence()
		if s := w.stats(); s.ChecksumErrors != 3 || len(p.events(events.UDPRequest)) != 1 || len(w.receive(largestRecord)) != 0 {
			t.Errorf("%+v", s)
		}
		if v.vnet {
			p.sendOdd(wrong(far), 0)
			if b, _ := o.read(); !bytes.Equal(b, framed(far, []byte("x"))) {
				t.Errorf("% x", b)
			}
		}
	})
}

// A UDP header that lies about its length is no datagram, whoever vouches for it.
func TestDatagramLengthsThatLie(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		lies := []uint16{0, 1, 7, 14, 1000, 65535}
		for _, length := range lies {
			packet := datagramWith(app, far, []byte("hello"), func(u header.UDP) { u.SetLength(length) }, true)
			if v.vnet {
				p.sendOdd(packet, 0)
			}
			p.send(packet)
		}
		p.silence()
		s := p.stats()
		if n := len(p.events(events.UDPRequest)); n != 0 || s.DropMalformed+s.ChecksumErrors < uint64(len(lies)) {
			t.Errorf("%d requests, %+v", n, s)
		}
	})
}

// Port 0 is nobody's (RFC 768), at either end.
func TestDatagramsWithPort0(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		p.listen(17, 53)
		p.sendDatagram(netip.AddrPortFrom(v.app(), 0), netip.AddrPortFrom(v.far(), 9), []byte("x"))
		p.sendDatagram(netip.AddrPortFrom(v.app(), 9), netip.AddrPortFrom(v.far(), 0), []byte("x"))
		p.sendDatagram(netip.AddrPortFrom(v.app(), 0), netip.AddrPortFrom(v.gateway(), 53), []byte("x"))
		p.sendFragments(netip.AddrPortFrom(v.app(), 9), netip.AddrPortFrom(v.far(), 0), pattern(0, 3000), 1000, 3)
		p.silence()
		if s := p.stats(); s.DropMalformed != 4 || len(p.events(events.UDPRequest)) != 0 || len(p.receive(largestRecord)) != 0 {
			t.Errorf("%d requests, %+v", len(p.events(events.UDPRequest)), s)
		}
	})
}

// A datagram behind other headers is a datagram, an empty one too.
func TestDatagramBehindOddHeaders(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		odd := ipOptions{options: []byte{1, 1, 1, 1}}
		if v.six {
			odd = ipOptions{next: 60, options: []byte{17, 0, 1, 4, 0, 0, 0, 0}}
		}
		p.send(udpPacket(app, far, nil, false, odd))
		request := p.event(events.UDPRequest, 1)
		p.do(func(e *Engine) { must(t, e.ServeDatagrams(request.Flow)) })
		p.send(udpPacket(app, far, []byte("x"), false, odd))
		want := append(record(app, far, nil), record(app, far, []byte("x"))...)
		if v.six { // a fragment that is all there is (RFC 6946)
			p.sendFragments(app, far, nil, 1000, 9)
			want = append(want, record(app, far, nil)...)
		}
		p.settle()
		if b := p.receive(largestRecord); !bytes.Equal(b, want) {
			t.Errorf("% x", b)
		}
	})
}

// A busy loop that reads the device carries datagrams as the reactor does.
func TestDatagramsWhileLent(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		w.do(func(*Engine) { w.lend = true })
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		_, leg := p.socksFlow(o, app, far)
		for i := range 300 {
			payload := binary.BigEndian.AppendUint32(nil, uint32(i))
			p.sendDatagram(app, far, payload)
			b, _ := o.read()
			o.write(b, leg)
			if g := p.datagram(); g.source != far || !bytes.Equal(g.payload, payload) {
				t.Fatalf("%d: %+v", i, g)
			}
		}
		w.listen(17, 53)
		p.sendDatagram(app, netip.AddrPortFrom(v.gateway(), 53), []byte("query"))
		w.event(events.Datagrams, 1)
		request := p.datagramFlow(app, netip.AddrPortFrom(far.Addr(), 99), []byte("x"))
		w.do(func(e *Engine) { must(t, e.Refuse(request.Flow, RefusePortUnreachable)) })
		p.expectRefusal(p.next(), RefusePortUnreachable, app, netip.AddrPortFrom(far.Addr(), 99))
	})
}
