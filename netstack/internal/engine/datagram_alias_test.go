package engine

import (
	"bytes"
	"net/netip"
	"testing"

	"nanotun/netstack/internal/link"
)

// A flow that is attached to another destination than the app named reaches that
// one; its replies look as if from the one that was named, and those of a peer
// that the app talks to under its own address do not.
func TestAlias(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, named := v.ends()
		really := netip.AddrPortFrom(named.Addr().Next(), 443)
		request := p.datagramFlow(app, named, []byte("one"))
		id := w.associate(o.relayLeg(), 2, false)
		to := link.End{Port: 443, Family: pick[uint16](v.six, 6, 4)}
		copy(to.Host[:], really.Addr().AsSlice())
		var err error
		w.do(func(e *Engine) { err = e.Datagrams().Attach(request.Flow, id, &to, 0) })
		must(t, err)
		p.sendDatagram(app, named, []byte("two"))
		var leg netip.AddrPort
		for _, want := range []string{"one", "two"} {
			var b []byte
			if b, leg = o.read(); !bytes.Equal(b, framed(really, []byte(want))) {
				t.Fatalf("% x", b)
			}
		}
		o.write(framed(really, []byte("reply")), leg)
		if d := p.datagram(); d.source != named || string(d.payload) != "reply" {
			t.Errorf("%q from %s", d.payload, d.source)
		}
		must(t, w.attach(p.datagramFlow(app, really, []byte("three")).Flow, id))
		_, _ = o.read()
		o.write(framed(really, []byte("reply")), leg)
		if d := p.datagram(); d.source != really {
			t.Errorf("from %s, which the app talks to as %s", d.source, really)
		}
	})
}
