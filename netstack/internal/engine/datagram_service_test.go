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

// record is what ns_receive gives and ns_send takes.
func record(source, destination netip.AddrPort, payload []byte) []byte {
	order := binary.NativeEndian
	b := order.AppendUint32(nil, uint32(len(payload)))
	b = order.AppendUint16(b, source.Port())
	b = order.AppendUint16(b, destination.Port())
	b = append(b, pick[byte](source.Addr().Is6(), 6, 4), 0, 0, 0)
	for _, a := range []netip.Addr{source.Addr(), destination.Addr()} {
		b = append(append(b, a.AsSlice()...), make([]byte, 16-len(a.AsSlice()))...)
	}
	return append(b, payload...)
}

const largestRecord = 65579

func (w *world) receive(size int) (b []byte) {
	w.t.Helper()
	b = make([]byte, size)
	w.do(func(e *Engine) { b = b[:e.Datagrams().Services.Receive(b)] })
	return b
}

func (w *world) listen(protocol uint32, port uint16) {
	w.t.Helper()
	w.do(func(e *Engine) { must(w.t, e.Listen(protocol, uint32(port))) })
}

// Datagrams to a port of the gateway that something listens on come as records,
// without a request; those to others are dropped and counted.
func TestDatagramsForTheServices(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		app, gateway := netip.AddrPortFrom(v.app(), 5000), netip.AddrPortFrom(v.gateway(), 53)
		p.sendDatagram(app, gateway, []byte("early"))
		p.silence()
		if s := w.stats(); s.DropGateway != 1 || len(w.receive(largestRecord)) != 0 {
			t.Errorf("before the listen: %+v", s)
		}
		w.listen(17, 53)
		p.sendDatagram(app, gateway, []byte("query"))
		w.event(events.Datagrams, 1)
		p.sendDatagram(app, gateway, nil)
		p.sendDatagram(app, netip.AddrPortFrom(v.gateway(), 54), []byte("elsewhere"))
		p.sendFragments(app, gateway, pattern(3, 4000), 1000, 9)
		p.settle()
		want := append(append(record(app, gateway, []byte("query")), record(app, gateway, nil)...), record(app, gateway, pattern(3, 4000))...)
		if b := w.receive(largestRecord); !bytes.Equal(b, want) {
			t.Errorf("%d bytes, not the %d that were sent", len(b), len(want))
		}
		if n := len(w.events(events.Datagrams)); n != 1 {
			t.Errorf("%d events before all was received", n)
		}
		p.sendDatagram(app, gateway, []byte("more"))
		p.settle()
		if n := len(w.events(events.Datagrams)); n != 1 {
			t.Errorf("%d events before it was told that nothing is left", n)
		}
		w.receive(largestRecord)
		if b := w.receive(largestRecord); len(b) != 0 {
			t.Errorf("%d bytes more", len(b))
		}
		p.sendDatagram(app, gateway, []byte("later"))
		w.event(events.Datagrams, 2)
		if s := w.stats(); s.DropGateway != 2 || s.DropService != 0 || s.DatagramFlows != 0 || len(w.events(events.UDPRequest)) != 0 {
			t.Errorf("%+v", s)
		}
		p.silence()
	})
}

// Receive gives whole records only, and those that did not fit the next time.
func TestReceiveInParts(t *testing.T) {
	w := newWorld(t, families()[0])
	p := newPlayer(w)
	app, gateway := netip.AddrPortFrom(w.v.app(), 5000), netip.AddrPortFrom(w.v.gateway(), 53)
	w.listen(17, 53)
	for size := range 10 {
		p.sendDatagram(app, gateway, pattern(0, size))
	}
	p.settle()
	if b := w.receive(43); len(b) != 0 {
		t.Errorf("%d bytes in no room", len(b))
	}
	for size := 0; size < 10; size += 2 {
		want := append(record(app, gateway, pattern(0, size)), record(app, gateway, pattern(0, size+1))...)
		if b := w.receive(len(want) + 40); !bytes.Equal(b, want) {
			t.Errorf("% x, not % x", b, want)
		}
	}
}

// What waits for the services is bounded and counted, and there is room again
// once it was received.
func TestServicesAreBounded(t *testing.T) {
	const limit, size = 256 << 10, 1000
	w := newWorld(t, families()[0])
	p := newPlayer(w)
	app, gateway := netip.AddrPortFrom(w.v.app(), 5000), netip.AddrPortFrom(w.v.gateway(), 53)
	w.listen(17, 53)
	fit := limit / (size + 44)
	for round := 1; round <= 2; round++ {
		for range fit + 50 {
			p.sendDatagram(app, gateway, pattern(0, size))
		}
		p.settle()
		if n := w.stats().DropService; n != uint64(round*50) {
			t.Errorf("%d dropped", n)
		}
		total := 0
		for n := -1; n != 0; total += n {
			n = len(w.receive(largestRecord))
		}
		if total != fit*(size+44) {
			t.Errorf("%d bytes, not %d", total, fit*(size+44))
		}
	}
}

// A flow that is served comes as records: what waited first, then the rest.
func TestServedFlow(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		app, far := v.ends()
		request := p.datagramFlow(app, far, []byte("one"))
		p.sendDatagram(app, far, []byte("two"))
		p.settle()
		w.do(func(e *Engine) { must(t, e.ServeDatagrams(request.Flow)) })
		w.event(events.Datagrams, 1)
		p.sendDatagram(app, far, []byte("three"))
		want := append(append(record(app, far, []byte("one")), record(app, far, []byte("two"))...), record(app, far, []byte("three"))...)
		if v.vnet {
			p.sendSegmented(app, far, []byte("fourfive"), 4)
			want = append(append(want, record(app, far, []byte("four"))...), record(app, far, []byte("five"))...)
		}
		p.settle()
		if b := w.receive(largestRecord); !bytes.Equal(b, want) {
			t.Errorf("% x, not\n% x", b, want)
		}
		p.silence()
		if s := w.stats(); s.DatagramFlows != 1 || len(p.events(events.UDPRequest)) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Send writes datagrams to apps as from anybody, large ones in fragments, and says
// of a record that lies, after those before it.
func TestSendRecords(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		app, far := v.ends()
		send := func(b []byte) (n int, err error) {
			w.do(func(e *Engine) { n, err = e.Datagrams().Send(b) })
			return n, err
		}
		sizes := []int{0, 1, 512, 1400, 5000, 65507}
		var b []byte
		for _, size := range sizes {
			b = append(b, record(far, app, pattern(size, size))...)
		}
		if n, err := send(b); n != len(sizes) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		for _, size := range sizes {
			if g := p.datagram(); g.source != far || g.destination != app || !bytes.Equal(g.payload, pattern(size, size)) {
				t.Errorf("%d bytes came as %d from %s to %s", size, len(g.payload), g.source, g.destination)
			}
		}
		if n, err := send(nil); n != 0 || err != nil {
			t.Errorf("nothing: %d, %v", n, err)
		}
		good := record(far, app, []byte("good"))
		with := func(at int, value byte) []byte {
			bad := bytes.Clone(good)
			bad[at] = value
			return bad
		}
		for i, bad := range [][]byte{
			good[:1], good[:43], good[:47], with(0, 5), with(3, 0x80), with(8, 0), with(8, 5), with(8, 255),
			record(far, app, make([]byte, 65508)),
		} {
			if n, err := send(append(bytes.Clone(good), bad...)); n != 1 || err != unix.EINVAL {
				t.Errorf("record %d: %d, %v", i, n, err)
			}
			if g := p.datagram(); string(g.payload) != "good" {
				t.Errorf("%+v", g)
			}
		}
		p.silence()
	})
}

// TCP to a port of the gateway that something listens on becomes a request.
func TestTCPToAListener(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		w.listen(17, 80)
		w.listen(6, 53)
		for requests, port := range []uint16{80, 53} {
			c := p.client(40000 + port)
			c.remote = netip.AddrPortFrom(v.gateway(), port)
			before := len(w.events(events.TCPRequest))
			c.syn()
			p.silence()
			if n := len(w.events(events.TCPRequest)) - before; n != requests {
				t.Errorf("port %d: %d requests", port, n)
			}
			if requests == 0 {
				continue
			}
			up := w.join(w.events(events.TCPRequest)[before].Flow, nil)
			c.answerSYNACK()
			c.transmit(header.TCPFlagAck|header.TCPFlagPsh, []byte("query"))
			readExactly(t, up, []byte("query"))
		}
	})
}

// Listen takes TCP and UDP ports only.
func TestListenErrors(t *testing.T) {
	w := newWorld(t, families()[0])
	w.do(func(e *Engine) {
		for _, c := range [][2]uint32{{6, 0}, {17, 65536}, {17, 1 << 31}, {0, 53}, {1, 53}, {6 + 256, 53}} {
			if err := e.Listen(c[0], c[1]); err != unix.EINVAL {
				t.Errorf("%v: %v", c, err)
			}
		}
		must(t, e.Listen(17, 65535))
		must(t, e.Listen(17, 65535))
	})
}
