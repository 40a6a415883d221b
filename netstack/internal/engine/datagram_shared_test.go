package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/datagram"
)

// query is a datagram with a DNS header (RFC 1035, section 4.1.1).
func query(id uint16, text string) []byte {
	return append([]byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, text...)
}

// sharedFlow is a flow whose first datagram is a query, attached to a shared leg.
func (p *player) sharedFlow(association uint64, app, far netip.AddrPort, id uint16) error {
	p.t.Helper()
	request := p.datagramFlow(app, far, query(id, app.String()))
	return p.attach(request.Flow, association)
}

// Queries of many sources go by one leg, to several servers, and each reply
// reaches who asked, told by its sender and its id.
func TestSharedLeg(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		servers := []netip.AddrPort{netip.AddrPortFrom(v.far(), 53), netip.AddrPortFrom(v.far().Next(), 53)}
		id := w.associate(o.relayLeg(), datagram.Socks5, true)
		var leg netip.AddrPort
		type asked struct {
			app, server netip.AddrPort
			id          uint16
		}
		var all []asked
		for i := range 20 {
			a := asked{netip.AddrPortFrom(v.app(), uint16(5000+i)), servers[i%2], uint16(100 + i/2)}
			must(t, p.sharedFlow(id, a.app, a.server, a.id))
			var b []byte
			if b, leg = o.read(); !bytes.Equal(b, framed(a.server, query(a.id, a.app.String()))) {
				t.Fatalf("% x", b)
			}
			all = append(all, a)
		}
		for i := range all {
			a := all[len(all)-1-i]
			for range 2 { // a reply does not use the query up
				o.write(framed(a.server, query(a.id, "reply")), leg)
				if g := p.datagram(); g.source != a.server || g.destination != a.app || !bytes.Equal(g.payload, query(a.id, "reply")) {
					t.Errorf("%+v: %+v", a, g)
				}
			}
		}
		if s := w.stats(); s.DatagramFlows != 20 || s.Associations != 1 || s.DropReply != 0 || s.DatagramsUp != 20 || s.DatagramsDown != 40 {
			t.Errorf("%+v", s)
		}
	})
}

// What could not be told apart does not go by one leg: it waits on, and may go by
// another one.
func TestSharedLegTwoAlike(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		server := netip.AddrPortFrom(v.far(), 53)
		app := func(i int) netip.AddrPort { return netip.AddrPortFrom(v.app(), uint16(5000+i)) }
		first := w.associate(o.relayLeg(), datagram.Socks5, true)
		must(t, p.sharedFlow(first, app(0), server, 7))
		_, legOfFirst := o.read()
		request := p.datagramFlow(app(1), server, query(7, "b"))
		if err := w.attach(request.Flow, first); err != unix.EEXIST {
			t.Errorf("the second one alike: %v", err)
		}
		second := w.associate(o.relayLeg(), datagram.Socks5, true)
		must(t, w.attach(request.Flow, second))
		_, leg := o.read()
		o.write(framed(server, query(7, "for b")), leg)
		if g := p.datagram(); g.destination != app(1) {
			t.Errorf("%+v", g)
		}
		o.write(framed(server, query(7, "for a")), legOfFirst)
		if g := p.datagram(); g.destination != app(0) || !bytes.HasSuffix(g.payload, []byte("for a")) {
			t.Errorf("%+v", g)
		}
		// The same app again is no stranger, nor is another server.
		p.sendDatagram(app(0), server, query(7, "again"))
		o.read()
		must(t, p.sharedFlow(first, app(2), netip.AddrPortFrom(v.far(), 54), 7))
		o.read()
		// An attached flow whose next query is like another's waits for another leg.
		p.sendDatagram(app(2), netip.AddrPortFrom(v.far(), 54), query(8, "c"))
		o.read()
		must(t, p.sharedFlow(first, app(3), server, 9))
		o.read()
		again := p.datagramFlow(app(3), server, query(7, "stolen?"))
		o.silence()
		if err := w.attach(again.Flow, first); err != unix.EEXIST {
			t.Errorf("the leg that has one alike: %v", err)
		}
		o.write(framed(server, query(7, "for a")), legOfFirst)
		if g := p.datagram(); g.destination != app(0) {
			t.Errorf("%+v", g)
		}
	})
}

// What is no query does not go by a shared leg, not even in the middle of a flow: it
// waits on, and goes by a leg of its own, whose replies may be anything.
func TestSharedLegNoQuery(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		server := netip.AddrPortFrom(v.far(), 53)
		app := func(i int) netip.AddrPort { return netip.AddrPortFrom(v.app(), uint16(5000+i)) }
		shared := w.associate(o.relayLeg(), datagram.Socks5, true)
		must(t, p.sharedFlow(shared, app(1), server, 7))
		o.read()
		odd := append([]byte{1, 0, 0, 0}, make([]byte, 144)...)
		for i := range 2 {
			request := p.datagramFlow(app(i), server, odd)
			o.silence()
			if err := w.attach(request.Flow, shared); err != unix.EEXIST {
				t.Errorf("the shared leg: %v", err)
			}
			must(t, w.attach(request.Flow, w.associate(o.relayLeg(), datagram.Socks5, false)))
			b, leg := o.read()
			if !bytes.Equal(b, framed(server, odd)) {
				t.Errorf("% x", b)
			}
			o.write(framed(server, []byte("hello")), leg)
			if g := p.datagram(); g.destination != app(i) || string(g.payload) != "hello" {
				t.Errorf("%+v", g)
			}
		}
	})
}

// What nobody asked for is dropped and counted: another id, another sender, no
// DNS header.
func TestSharedLegUnknownReplies(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, server := netip.AddrPortFrom(v.app(), 5000), netip.AddrPortFrom(v.far(), 53)
		id := w.associate(o.relayLeg(), datagram.Socks5, true)
		must(t, p.sharedFlow(id, app, server, 7))
		_, leg := o.read()
		for i, b := range [][]byte{
			framed(server, query(8, "x")), framed(server, query(0x0700, "x")),
			framed(netip.AddrPortFrom(v.far().Next(), 53), query(7, "x")), framed(netip.AddrPortFrom(v.far(), 54), query(7, "x")),
			framed(server, query(7, "")[:11]), framed(server, nil),
		} {
			o.write(b, leg)
			eventually(t, fmt.Sprintf("drop %d", i), func() bool { return w.stats().DropReply == uint64(i+1) })
		}
		o.write(framed(server, query(7, "true")), leg)
		if g := p.datagram(); g.destination != app || !bytes.HasSuffix(g.payload, []byte("true")) {
			t.Errorf("%+v", g)
		}
	})
}

// The end of a shared leg ends all of its flows.
func TestSharedLegEnds(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		server := netip.AddrPortFrom(v.far(), 53)
		id := w.associate(o.relayLeg(), datagram.Socks5, true)
		for i := range uint16(3) {
			must(t, p.sharedFlow(id, netip.AddrPortFrom(v.app(), 5000+i), server, i))
			o.read()
		}
		w.do(func(e *Engine) { e.Datagrams().Dissociate(id) })
		next := w.associate(o.relayLeg(), datagram.Socks5, true)
		for i := range uint16(3) {
			must(t, p.sharedFlow(next, netip.AddrPortFrom(v.app(), 5000+i), server, i))
			o.read()
		}
		if s := w.stats(); s.DatagramFlows != 3 || s.Associations != 1 {
			t.Errorf("%+v", s)
		}
	})
}
