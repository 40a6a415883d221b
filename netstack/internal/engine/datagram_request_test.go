package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
)

// A datagram becomes one request that names its flow; further ones of the flow do
// not, another source's or to another destination does, and the app hears nothing.
func TestDatagramBecomesARequest(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		e := p.datagramFlow(app, far, []byte("x"))
		want := pick(v.six, "6/17 [fdfe:dcba:9876::2]:5000 > [2001:db8::7]:5001", "4/17 198.18.0.2:5000 > 203.0.113.7:5001")
		if g := describe(e); g != want || e.Flow == 0 {
			t.Errorf("request %d is %s, not %s", e.Flow, g, want)
		}
		for range 3 {
			p.sendDatagram(app, far, []byte("y"))
		}
		p.silence()
		if n := len(p.events(events.UDPRequest)); n != 1 {
			t.Errorf("%d requests", n)
		}
		ids := map[uint64]bool{e.Flow: true}
		for _, ends := range [][2]netip.AddrPort{
			{netip.AddrPortFrom(v.app(), 5009), far}, {netip.AddrPortFrom(v.app().Next(), 5000), far},
			{app, netip.AddrPortFrom(v.far(), 5009)}, {app, netip.AddrPortFrom(v.far().Next(), 5001)},
		} {
			ids[p.datagramFlow(ends[0], ends[1], []byte("x")).Flow] = true
		}
		p.silence()
		if s := p.stats(); len(ids) != 5 || s.DatagramFlows != 5 || s.DropUndecided != 0 || s.Pending != 0 {
			t.Errorf("%d numbers, %+v", len(ids), s)
		}
	})
}

// What waits for the decision about one flow is bounded, goes out in its order,
// and what came after it follows.
func TestUndecidedDatagramsWait(t *testing.T) {
	const held = 16
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		request := p.datagramFlow(app, far, []byte("0"))
		for i := range held + 4 {
			p.sendDatagram(app, far, bytes.Repeat([]byte{byte('1' + i)}, 1+i%3))
		}
		p.settle()
		if n := w.stats().DropUndecided; n != 5 {
			t.Errorf("%d dropped, not 5", n)
		}
		must(t, w.attach(request.Flow, w.associate(o.relayLeg(), datagram.Socks5, false)))
		p.sendDatagram(app, far, []byte("later"))
		want := []string{"0"}
		for i := range held - 1 {
			want = append(want, string(bytes.Repeat([]byte{byte('1' + i)}, 1+i%3)))
		}
		for _, s := range append(want, "later") {
			if b, _ := o.read(); !bytes.Equal(b, framed(far, []byte(s))) {
				t.Errorf("% x, not %q", b, s)
			}
		}
		if n := w.stats().DatagramsUp; n != held+1 {
			t.Errorf("%d up", n)
		}
	})
}

// What waits for all decisions is bounded in bytes, and the room comes back.
func TestUndecidedBytesAreBounded(t *testing.T) {
	const size = 32 << 10
	w := newWorld(t, corners()[0], func(c *Config) { c.DatagramFlows = 256 })
	p := newPlayer(w)
	app, far := w.v.ends()
	datagrams := 0
	for port := range uint16(40) {
		to := netip.AddrPortFrom(far.Addr(), 7000+port)
		for range 16 {
			p.sendSegmented(app, to, pattern(0, size), 0)
			datagrams++
		}
	}
	p.settle()
	held := datagrams - int(w.stats().DropUndecided)
	if most := 8 << 20 / size; held != most {
		t.Errorf("%d wait, not %d", held, most)
	}
	w.do(func(e *Engine) {
		for _, r := range p.events(events.UDPRequest) {
			must(t, e.Drop(r.Flow))
		}
	})
	dropped := w.stats().DropUndecided
	p.datagramFlow(app, far, pattern(0, 1000))
	if n := w.stats().DropUndecided; n != dropped {
		t.Error("there is no room again")
	}
}

// Undecided flows are bounded; one more is counted, and has its chance once
// another was decided.
func TestUndecidedLimit(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.PendingLimit = 3 }))
		to := func(i int) netip.AddrPort { return netip.AddrPortFrom(v.far(), uint16(6000+i)) }
		for i := range 5 { // of a host each
			p.sendDatagram(netip.AddrPortFrom(stranger(v, i), 5000), to(i), []byte("x"))
		}
		p.settle()
		if s := p.stats(); len(p.events(events.UDPRequest)) != 3 || s.DropUndecided != 2 || s.DatagramFlows != 3 {
			t.Errorf("%d requests, %+v", len(p.events(events.UDPRequest)), s)
		}
		p.do(func(e *Engine) { must(t, e.Drop(p.events(events.UDPRequest)[1].Flow)) })
		if e := p.datagramFlow(netip.AddrPortFrom(stranger(v, 4), 5000), to(4), []byte("x")); e.DestPort != 6004 {
			t.Errorf("%s", describe(e))
		}
	})
}

// At the limit of flows a new one takes the place of the one that was idle for
// longest, and undecided ones keep theirs.
func TestDatagramFlowLimit(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		w := newWorld(t, v, func(c *Config) { c.DatagramFlows = 3 })
		p, o := newPlayer(w), newOutside(t)
		app, _ := v.ends()
		to := func(i int) netip.AddrPort { return netip.AddrPortFrom(v.far(), uint16(6000+i)) }
		id := w.associate(o.relayLeg(), datagram.Socks5, false)
		for i := range 3 {
			must(t, w.attach(p.datagramFlow(app, to(i), []byte("x")).Flow, id))
		}
		// Activity is noted to a tenth of a second.
		<-time.After(150 * time.Millisecond)
		p.sendDatagram(app, to(0), []byte("x"))
		p.settle()
		must(t, w.attach(p.datagramFlow(app, to(3), []byte("x")).Flow, id))
		requests := len(p.events(events.UDPRequest))
		for _, i := range []int{0, 2, 3} {
			p.sendDatagram(app, to(i), []byte("x"))
		}
		p.settle()
		if n := len(p.events(events.UDPRequest)); n != requests {
			t.Errorf("%d new requests: the wrong one went", n-requests)
		}
		for _, i := range []int{1, 7, 8} {
			p.datagramFlow(app, to(i), []byte("x"))
		}
		p.sendDatagram(app, to(9), []byte("x"))
		p.settle()
		if s := w.stats(); s.DatagramFlows != 3 || s.DropUndecided != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Attach says what it cannot do, and of which the flow still waits.
func TestAttachErrors(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		id := w.associate(o.relayLeg(), datagram.Socks5, false)
		if err := w.attach(12345, id); err != unix.ENOENT {
			t.Errorf("a flow that is none: %v", err)
		}
		request := p.datagramFlow(app, far, []byte("x"))
		for _, none := range []uint64{0, id + 1, 1 << 63} {
			if err := w.attach(request.Flow, none); err != unix.EBADF {
				t.Errorf("association %d: %v", none, err)
			}
		}
		must(t, w.attach(request.Flow, id))
		if err := w.attach(request.Flow, id); err != unix.ENOENT {
			t.Errorf("the second time: %v", err)
		}
		w.do(func(e *Engine) {
			e.Datagrams().Dissociate(id)
			e.Datagrams().Dissociate(id) // no harm
			for what, err := range map[string]error{
				"refuse": e.Refuse(request.Flow, RefusePortUnreachable), "drop": e.Drop(request.Flow), "serve": e.ServeDatagrams(request.Flow),
			} {
				if err != unix.ENOENT {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	})
}

// A socket that Associate cannot use is closed all the same.
func TestAssociateErrors(t *testing.T) {
	w := newWorld(t, families()[0])
	fds := openFDs(t)
	plain := func() int {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		must(t, err)
		return fd
	}
	file, err := unix.Open("/proc/self/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	w.do(func(e *Engine) {
		for leg, want := range map[datagram.Leg]unix.Errno{0: unix.EINVAL, 3: unix.EINVAL, 1 << 31: unix.EINVAL} {
			if _, err := e.Datagrams().Associate(plain(), leg, false, ""); err != want {
				t.Errorf("leg %d: %v", leg, err)
			}
		}
		if _, err := e.Datagrams().Associate(file, datagram.Direct, false, ""); err != unix.EPERM {
			t.Errorf("a file: %v", err)
		}
		e.Quiesce()
		if _, err := e.Datagrams().Associate(plain(), datagram.Direct, false, ""); err != unix.ESHUTDOWN {
			t.Errorf("while it ends: %v", err)
		}
	})
	eventually(t, fmt.Sprintf("%d fds", fds), func() bool { return openFDs(t) == fds })
	if s := w.stats(); s.Associations != 0 {
		t.Errorf("%+v", s)
	}
}

// After Quiesce no datagram becomes a request, and flows that are attached go
// on.
func TestQuiesceOfDatagrams(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		_, leg := p.socksFlow(o, app, far)
		w.do(func(e *Engine) { e.Quiesce() })
		p.sendDatagram(app, netip.AddrPortFrom(v.far(), 9), []byte("new"))
		p.sendDatagram(app, far, []byte("old"))
		if b, _ := o.read(); !bytes.Equal(b, framed(far, []byte("old"))) {
			t.Errorf("% x", b)
		}
		o.write(framed(far, []byte("reply")), leg)
		if g := p.datagram(); string(g.payload) != "reply" {
			t.Errorf("%+v", g)
		}
		p.silence()
		if n := len(p.events(events.UDPRequest)); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}
