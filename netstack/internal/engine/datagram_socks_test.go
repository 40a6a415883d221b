package engine

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
)

// Datagrams go out by a SOCKS5 leg with the header of RFC 1928, the one that
// waited for the decision first, and anybody's reply comes back as from them.
func TestSocksLeg(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		request := p.datagramFlow(app, far, []byte("one"))
		id := w.associate(o.relayLeg(), datagram.Socks5, false)
		must(t, w.attach(request.Flow, id))
		p.sendDatagram(app, far, []byte("two"))
		p.sendDatagram(app, far, nil)
		var leg netip.AddrPort
		for _, want := range []string{"one", "two", ""} {
			var b []byte
			b, leg = o.read()
			if !bytes.Equal(b, framed(far, []byte(want))) {
				t.Fatalf("%q came as % x", want, b)
			}
		}
		third := netip.AddrPortFrom(v.far().Next(), 5002)
		for _, from := range []netip.AddrPort{far, third} {
			for _, size := range []int{0, 1, 1400, 8000} {
				payload := pattern(size, size)
				o.write(framed(from, payload), leg)
				g := p.datagram()
				if g.source != from || g.destination != app || !bytes.Equal(g.payload, payload) {
					t.Errorf("%d bytes came as %d from %s to %s", size, len(g.payload), g.source, g.destination)
				}
			}
		}
		s := w.stats()
		if s.DatagramsUp != 3 || s.DatagramsDown != 8 || s.Associations != 1 || s.AssociationsTotal != 1 || s.DatagramFlows != 1 || s.BytesUp != 6 || s.BytesDown != 2*9401 {
			t.Errorf("%+v", s)
		}
		if s.DropReply+s.DropSend+s.DropUndecided+s.DropMalformed != 0 {
			t.Errorf("something was dropped: %+v", s)
		}
	})
}

// One leg reaches many destinations of its source, in order, and takes no other
// source's flow.
func TestOneLegManyDestinations(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		id, _ := p.socksFlow(o, app, far)
		for i := range 3 {
			other := netip.AddrPortFrom(v.far(), uint16(6000+i))
			request := p.datagramFlow(app, other, []byte("x"))
			must(t, w.attach(request.Flow, id))
			if b, _ := o.read(); !bytes.Equal(b, framed(other, []byte("x"))) {
				t.Errorf("% x", b)
			}
		}
		stranger := netip.AddrPortFrom(v.app(), 5999)
		request := p.datagramFlow(stranger, far, []byte("x"))
		if err := w.attach(request.Flow, id); err != unix.EBADF {
			t.Errorf("another source's flow: %v", err)
		}
		if s := w.stats(); s.DatagramFlows != 5 || s.Associations != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A reply that a relay's header lies about is dropped and counted, and the next
// good one arrives.
func TestSocksRepliesThatLie(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		_, leg := p.socksFlow(o, app, far)
		good := framed(far, []byte("good"))
		other := variant{six: !v.six}
		with := func(at int, b byte) []byte {
			changed := slices.Clone(good)
			changed[at] = b
			return changed
		}
		of := func(address string) []byte {
			return framed(netip.AddrPortFrom(netip.MustParseAddr(address), 5001), []byte("x"))
		}
		bad := [][]byte{
			with(2, 1), with(2, 0x80), with(2, 255), // FRAG: no datagram of ours is one
			with(3, 0), with(3, 2), with(3, 5), with(3, 255), // ATYP
			framed(netip.AddrPortFrom(other.far(), 5001), []byte("x")),
			framed(netip.AddrPortFrom(v.far(), 0), []byte("x")),
			framed(netip.AddrPortFrom(v.gateway(), 53), []byte("x")),
			append([]byte{0, 0, 0, 3, 255}, bytes.Repeat([]byte{'a'}, 256)...), // no port
			{0, 0, 0, 3, 0, 0, 53}, // an empty name, not the destination's port
		}
		for size := range len(socksHeader(far)) {
			bad = append(bad, good[:size])
		}
		if v.six {
			bad = append(bad, of("::"), of("::1"), of("ff02::1"), of("::ffff:203.0.113.9"))
		} else {
			bad = append(bad, of("0.0.0.0"), of("127.0.0.1"), of("224.0.0.1"), of("255.255.255.255"))
		}
		for i, b := range bad {
			o.write(b, leg)
			eventually(t, fmt.Sprintf("drop %d", i), func() bool { return w.stats().DropReply == uint64(i+1) })
		}
		o.write(good, leg)
		if g := p.datagram(); string(g.payload) != "good" {
			t.Errorf("%+v", g)
		}
		if s := w.stats(); s.DropReply != uint64(len(bad)) || s.DatagramsDown != 1 {
			t.Errorf("%d dropped of %d: %+v", s.DropReply, len(bad), s)
		}
	})
}

// A relay that names the sender is understood where only one can be meant, and
// where the name is an address.
func TestSocksReplyFromAName(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		id, leg := p.socksFlow(o, app, far)
		named := func(name string, port uint16) []byte {
			b := append([]byte{0, 0, 0, 3, byte(len(name))}, name...)
			return append(b, byte(port>>8), byte(port), 'h', 'i')
		}
		for _, name := range []string{"example.com", far.Addr().String()} {
			o.write(named(name, far.Port()), leg)
			if g := p.datagram(); g.source != far || g.destination != app || string(g.payload) != "hi" {
				t.Errorf("%s: %+v", name, g)
			}
		}
		third := v.far().Next()
		o.write(named(third.String(), 99), leg)
		if g := p.datagram(); g.source != netip.AddrPortFrom(third, 99) {
			t.Errorf("%+v", g)
		}
		o.write(named("example.com", far.Port()+1), leg)
		eventually(t, "the drop", func() bool { return w.stats().DropReply == 1 })
		must(t, w.attach(p.datagramFlow(app, netip.AddrPortFrom(third, far.Port()), []byte("x")).Flow, id))
		o.write(named("example.com", far.Port()), leg)
		eventually(t, "the drop of what may be two", func() bool { return w.stats().DropReply == 2 })
	})
}

// An IPv4 sender that a relay writes as an IPv6 address comes as what it is.
func TestSocksMappedAddress(t *testing.T) {
	v := families()[0]
	p, o := newPlayer(newWorld(t, v)), newOutside(t)
	app, far := v.ends()
	_, leg := p.socksFlow(o, app, far)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(far.Addr().As16()), far.Port())
	o.write(framed(mapped, []byte("hi")), leg)
	if g := p.datagram(); g.source != far || string(g.payload) != "hi" {
		t.Errorf("%+v", g)
	}
}

// A refused datagram is about one destination: the association goes on, and the app is
// told if it can only be about its own. The refusals are reported, not each.
func TestRefusedDatagram(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		id, leg := p.socksFlow(o, app, far)
		at := o.conn.LocalAddr().(*net.UDPAddr)
		must(t, o.conn.Close())
		for range 2 {
			p.sendDatagram(app, far, []byte("into the void"))
			p.expectRefusal(p.next(), RefusePortUnreachable, app, far)
		}
		if e := w.event(events.AssociationRefused, 1); e.Flow != id {
			t.Errorf("%+v", e)
		}
		conn, err := net.ListenUDP("udp", at)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		o.conn = conn
		p.sendDatagram(app, far, []byte("again"))
		if b, from := o.read(); !bytes.Equal(b, framed(far, []byte("again"))) || from != leg {
			t.Errorf("% x from %s, not %s", b, from, leg)
		}
		if s := w.stats(); s.Associations != 1 || s.DatagramFlows != 1 || len(w.events(events.AssociationRefused)) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// With several destinations, or several apps, nobody knows whom a refusal is about, and
// nobody is told.
func TestRefusedAmongSeveral(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o, shared := newPlayer(w), newOutside(t), newOutside(t)
		app, far := v.ends()
		id, _ := p.socksFlow(o, app, far)
		must(t, w.attach(p.datagramFlow(app, netip.AddrPortFrom(far.Addr().Next(), 7), []byte("x")).Flow, id))
		o.read()
		asker, server := netip.AddrPortFrom(v.app(), 5353), netip.AddrPortFrom(v.far(), 53)
		idShared := w.associate(shared.relayLeg(), datagram.Socks5, true)
		must(t, p.sharedFlow(idShared, asker, server, 1))
		shared.read()
		must(t, o.conn.Close())
		must(t, shared.conn.Close())
		p.sendDatagram(app, far, []byte("into the void"))
		p.sendDatagram(asker, server, query(2, "x"))
		w.event(events.AssociationRefused, 2)
		p.silence()
		if s := w.stats(); s.Associations != 2 {
			t.Errorf("%+v", s)
		}
	})
}
