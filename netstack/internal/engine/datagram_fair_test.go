package engine

import (
	"net/netip"
	"testing"

	"nanotun/netstack/internal/events"
)

// A source that sends to hundreds before its leg stands has a share of what may
// wait, and so has a host; others still get their requests.
func TestUndecidedOfOneSource(t *testing.T) {
	const ofSource, ofHost = 256, 300
	w := newWorld(t, corners()[0], func(c *Config) {
		c.PendingLimit, c.DatagramFlows = 2*ofHost, 1000
	})
	p := newPlayer(w)
	app, far := w.v.ends()
	flood := func(source netip.AddrPort) {
		for i := range 2 * ofSource {
			p.sendDatagram(source, netip.AddrPortFrom(far.Addr(), uint16(7000+i)), []byte("x"))
		}
		p.settle()
	}
	flood(app)
	if n := len(w.events(events.UDPRequest)); n != ofSource {
		t.Errorf("one source has %d requests", n)
	}
	flood(netip.AddrPortFrom(app.Addr(), 5999))
	if n := len(w.events(events.UDPRequest)); n != ofHost {
		t.Errorf("one host has %d requests", n)
	}
	p.datagramFlow(netip.AddrPortFrom(app.Addr().Next(), 5000), far, []byte("x"))
	// What is decided does not count any more.
	first := w.events(events.UDPRequest)[0]
	w.do(func(e *Engine) { must(t, e.Drop(first.Flow)) })
	p.datagramFlow(app, netip.AddrPortFrom(far.Addr(), 9999), []byte("x"))
}
