package engine

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/listing"
)

// follow has ends told, or not.
func (w *world) follow(on bool) { w.do(func(e *Engine) { e.Follow(on) }) }

// noted attaches a flow, whose first datagram is "first", with a note.
func (p *player) noted(o *outside, app, far netip.AddrPort, note uint64) (flow, association uint64, leg netip.AddrPort) {
	p.t.Helper()
	flow = p.datagramFlow(app, far, []byte("first")).Flow
	association = p.associate(o.relayLeg(), datagram.Socks5, false)
	p.do(func(e *Engine) { must(p.t, e.Datagrams().Attach(flow, association, nil, note)) })
	_, leg = o.read()
	return flow, association, leg
}

// A flow of datagrams is listed while it waits and while it is attached, with its ends, its
// note, and the bytes of each direction, those that waited and those in fragments included.
func TestDatagramFlowIsListed(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p, o := newPlayer(newWorld(t, v)), newOutside(t)
		app, far := v.ends()
		event := p.datagramFlow(app, far, []byte("first"))
		f := p.listed()
		want := listing.Flow{
			ID: event.Flow, State: listing.Waiting, Age: f.Age, Idle: f.Idle,
			Family: event.Family, Protocol: 17, Source: event.Source, Destination: event.Destination,
			SourcePort: event.SourcePort, DestPort: event.DestPort,
		}
		if f != want {
			t.Errorf("%+v, not %+v", f, want)
		}
		id := p.associate(o.relayLeg(), datagram.Socks5, false)
		p.do(func(e *Engine) { must(t, e.Datagrams().Attach(event.Flow, id, nil, 1<<63)) })
		_, leg := o.read()
		p.sendDatagram(app, far, []byte("second"))
		o.read()
		large := bytes.Repeat([]byte("x"), 3000)
		for _, payload := range [][]byte{[]byte("one"), large, []byte("three"), nil} {
			o.write(framed(far, payload), leg)
			p.datagram()
		}
		f = p.listed()
		want.State, want.Note, want.BytesUp, want.BytesDown = listing.Open, 1<<63, 11, 3008
		want.Age, want.Idle = f.Age, f.Idle
		if f != want {
			t.Errorf("%+v, not %+v", f, want)
		}
	})
}

// What a peer sends counts for the app's flow to that peer, and for none if there is no such
// flow; on a shared leg, for that of the source that has asked.
func TestDatagramsCountForTheirFlow(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p, o := newPlayer(newWorld(t, v)), newOutside(t)
		app, far := v.ends()
		other, stranger := netip.AddrPortFrom(far.Addr().Next(), 5001), netip.AddrPortFrom(far.Addr(), 9)
		first, id, leg := p.noted(o, app, far, 0)
		second := p.datagramFlow(app, other, []byte("x")).Flow
		must(t, p.attach(second, id))
		o.read()
		for _, peer := range []netip.AddrPort{far, other, far, far, stranger, other, far} {
			o.write(framed(peer, []byte("12345")), leg)
			p.datagram()
		}
		down := make(map[uint64]uint64)
		for _, f := range p.flows() {
			down[f.ID] = f.BytesDown
		}
		if len(down) != 2 || down[first] != 20 || down[second] != 10 {
			t.Errorf("%d and %d: %d", first, second, down)
		}
		shared := p.associate(o.relayLeg(), datagram.Socks5, true)
		asks := []netip.AddrPort{netip.AddrPortFrom(app.Addr(), 6001), netip.AddrPortFrom(app.Addr(), 6002)}
		for i, from := range asks {
			must(t, p.sharedFlow(shared, from, far, uint16(i)))
			_, leg = o.read()
		}
		for i := range asks {
			o.write(framed(far, query(uint16(i), "reply"[:3+i])), leg)
			p.datagram()
		}
		all := p.flows()
		if all[2].BytesDown != 15 || all[3].BytesDown != 16 {
			t.Errorf("%+v", all[2:])
		}
	})
}

// A flow that is forgotten and comes again counts anew.
func TestDatagramsOfANewFlowCount(t *testing.T) {
	p, o := newPlayer(newWorld(t, families()[0])), newOutside(t)
	app, far := p.v.ends()
	flow, id, leg := p.noted(o, app, far, 0)
	reply := func() {
		o.write(framed(far, []byte("12345")), leg)
		p.datagram()
	}
	reply()
	p.do(func(e *Engine) { e.End([]uint64{flow}) })
	reply()
	again := p.datagramFlow(app, far, []byte("x")).Flow
	must(t, p.attach(again, id))
	o.read()
	reply()
	if f := p.listed(); f.ID != again || f.BytesUp != 1 || f.BytesDown != 5 {
		t.Errorf("%+v", f)
	}
}

// What was refused, dropped or served is not listed, nor what belongs to an association that
// has ended.
func TestNotListed(t *testing.T) {
	p, o := newPlayer(newWorld(t, families()[0])), newOutside(t)
	app, far := p.v.ends()
	from := func(i uint16) netip.AddrPort { return netip.AddrPortFrom(app.Addr(), 5000+i) }
	ids := make([]uint64, 3)
	for i := range ids {
		ids[i] = p.datagramFlow(from(uint16(i)), far, []byte("x")).Flow
	}
	_, id, _ := p.noted(o, from(9), far, 0)
	p.do(func(e *Engine) {
		must(t, e.Refuse(ids[0], RefuseReset))
		must(t, e.Drop(ids[1]))
		must(t, e.ServeDatagrams(ids[2]))
		e.Datagrams().Dissociate(id)
	})
	if all := p.flows(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// ended waits for the end of a flow of datagrams.
func (p *player) ended(flow, note, up, down uint64, want unix.Errno) {
	p.t.Helper()
	e := p.closed(flow)
	if unix.Errno(e.Error) != want || e.Note != note || e.BytesUp != up || e.BytesDown != down || e.Protocol != 17 || e.Standing {
		p.t.Errorf("%+v", e)
	}
}

// The end of an attached flow is told while somebody follows: when its datagrams cease, when
// it makes room for another, and soon after that of its association, with that error.
func TestDatagramFlowEnds(t *testing.T) {
	ways := map[string]func(t *testing.T, p *player, o *outside, association uint64) unix.Errno{
		"dissociated": func(t *testing.T, p *player, o *outside, association uint64) unix.Errno {
			p.do(func(e *Engine) { e.Datagrams().Dissociate(association) })
			return 0
		},
		"dissociated, and again": func(t *testing.T, p *player, o *outside, association uint64) unix.Errno {
			p.do(func(e *Engine) { e.Datagrams().Dissociate(association) })
			app, far := p.v.ends()
			p.sendDatagram(app, far, []byte("x"))
			p.event(events.UDPRequest, 2)
			return 0
		},
		"evicted": func(t *testing.T, p *player, o *outside, association uint64) unix.Errno {
			for range 3 {
				p.associate(o.relayLeg(), datagram.Socks5, false)
			}
			return unix.ENOBUFS
		},
		"made room": func(t *testing.T, p *player, o *outside, association uint64) unix.Errno {
			_, far := p.v.ends()
			for i := range uint16(4) {
				p.datagramFlow(netip.AddrPortFrom(p.v.app(), 7000+i), far, []byte("x"))
			}
			return unix.ENOBUFS
		},
	}
	forEach(t, families(), func(t *testing.T, v variant) {
		for name, way := range ways {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, v, func(c *Config) { c.Associations, c.DatagramFlows = 3, 4 })
				p, o := newPlayer(w), newOutside(t)
				app, far := v.ends()
				p.follow(true)
				flow, association, leg := p.noted(o, app, far, 7)
				o.write(framed(far, []byte("reply")), leg)
				p.datagram()
				want := way(t, p, o, association)
				p.ended(flow, 7, 5, 5, want)
			})
		}
	})
}

// A flow whose datagrams cease ends without an error, and took until the last of them; one
// that waits, or was refused, is no end.
func TestIdleDatagramFlowEnds(t *testing.T) {
	const timeout = 300 * time.Millisecond
	p, o := newPlayer(newWorld(t, families()[0], func(c *Config) { c.UDPTimeout = timeout })), newOutside(t)
	app, far := p.v.ends()
	p.follow(true)
	refused := p.datagramFlow(netip.AddrPortFrom(app.Addr(), 6000), far, []byte("x")).Flow
	p.do(func(e *Engine) { must(t, e.Refuse(refused, RefuseReset)) })
	p.datagramFlow(netip.AddrPortFrom(app.Addr(), 6001), far, []byte("x"))
	flow, _, _ := p.noted(o, app, far, 7)
	p.ended(flow, 7, 5, 0, 0)
	if e := p.closed(flow); e.Microseconds >= uint64(timeout.Microseconds()) {
		t.Errorf("%+v", e)
	}
	if n := len(p.events(events.Closed)); n != 1 {
		t.Errorf("%d ends", n)
	}
}

// No end is told while nobody follows, nor later on; whoever begins to follow hears of flows
// that were there before.
func TestFollowDatagrams(t *testing.T) {
	p, o := newPlayer(newWorld(t, families()[0])), newOutside(t)
	app, far := p.v.ends()
	from := func(i uint16) netip.AddrPort { return netip.AddrPortFrom(app.Addr(), 5000+i) }
	first, _, _ := p.noted(o, from(0), far, 1)
	second, _, _ := p.noted(o, from(1), far, 2)
	third, _, _ := p.noted(o, from(2), far, 3)
	_, fourth, _ := p.noted(o, from(3), far, 4)
	p.do(func(e *Engine) {
		e.End([]uint64{first})
		e.Datagrams().Dissociate(fourth)
		e.Follow(true)
		e.End([]uint64{second})
	})
	p.datagramFlow(from(3), far, []byte("again"))
	p.do(func(e *Engine) {
		e.Follow(false)
		e.End([]uint64{third})
	})
	p.ended(second, 2, 5, 0, unix.ECONNABORTED)
	var told []uint64
	for _, e := range p.events(events.Closed) {
		told = append(told, e.Flow)
	}
	if !slices.Equal(told, []uint64{second}) {
		t.Errorf("told: %d", told)
	}
}
