package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/link"
)

const hostName = "www.example.com"

// nameHeader is the header of RFC 1928, section 7, for a name.
func nameHeader(name string, port uint16) []byte {
	b := append([]byte{0, 0, 0, 3, byte(len(name))}, name...)
	return append(b, byte(port>>8), byte(port))
}

// namedFlow is like socksFlow, by name.
func (p *player) namedFlow(o *outside, app, far netip.AddrPort) (id uint64, leg netip.AddrPort) {
	p.t.Helper()
	request := p.datagramFlow(app, far, []byte("first"))
	id = p.associateName(o.relayLeg(), hostName)
	must(p.t, p.attach(request.Flow, id))
	b, leg := o.read()
	if !bytes.Equal(b, append(nameHeader(hostName, far.Port()), "first"...)) {
		p.t.Fatalf("% x", b)
	}
	return id, leg
}

// Datagrams of one association go out with its name and each flow's port, alone and
// together, and the name may be as long as a header can hold.
func TestNamedLeg(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		id, _ := p.namedFlow(o, app, far)
		other := netip.AddrPortFrom(far.Addr(), 6000)
		must(t, w.attach(p.datagramFlow(app, other, []byte("other")).Flow, id))
		if b, _ := o.read(); !bytes.Equal(b, append(nameHeader(hostName, 6000), "other"...)) {
			t.Errorf("% x", b)
		}
		for i := range 64 {
			p.sendDatagram(app, far, pattern(i, 1200))
		}
		for i := range 64 {
			if b, _ := o.read(); !bytes.Equal(b, append(nameHeader(hostName, far.Port()), pattern(i, 1200)...)) {
				t.Fatalf("datagram %d: %d bytes", i, len(b))
			}
		}
		longest := strings.Repeat("a", 255)
		third := netip.AddrPortFrom(app.Addr(), 5003)
		request := p.datagramFlow(third, far, []byte("x"))
		must(t, w.attach(request.Flow, w.associateName(o.relayLeg(), longest)))
		if b, _ := o.read(); !bytes.Equal(b, append(nameHeader(longest, far.Port()), 'x')) {
			t.Errorf("% x", b)
		}
		if s := w.stats(); s.DropSend != 0 || s.DatagramsUp != 67 {
			t.Errorf("%+v", s)
		}
	})
}

// Whatever address, family or name a reply's header has, to the app it comes from the
// address that it knows, with the reply's port.
func TestNamedReplies(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		_, leg := p.namedFlow(o, app, far)
		for _, port := range []uint16{far.Port(), 7000} {
			for i, head := range [][]byte{
				socksHeader(netip.AddrPortFrom(netip.MustParseAddr("203.0.113.77"), port)),
				socksHeader(netip.AddrPortFrom(netip.MustParseAddr("2001:db8::77"), port)),
				socksHeader(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)),
				nameHeader(hostName, port), nameHeader("another.example", port), nameHeader("", port),
			} {
				o.write(append(head, "reply"...), leg)
				g := p.datagram()
				if g.source != netip.AddrPortFrom(far.Addr(), port) || g.destination != app || string(g.payload) != "reply" {
					t.Errorf("header %d: %q from %s to %s", i, g.payload, g.source, g.destination)
				}
			}
		}
	})
}

// A reply without a port, or with a header that is none, is dropped and counted, and so
// is one that comes before there is a flow.
func TestNamedRepliesThatLie(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		early := newOutside(t)
		fd := early.relayLeg()
		from, err := unix.Getsockname(fd)
		must(t, err)
		_ = w.associateName(fd, hostName)
		early.write(append(nameHeader(hostName, 1), 'x'), netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(from.(*unix.SockaddrInet4).Port)))
		eventually(t, "the early drop", func() bool { return w.stats().DropReply == 1 })
		_, leg := p.namedFlow(o, app, far)
		good := framed(far, []byte("good"))
		fragment := bytes.Clone(good)
		fragment[2] = 1
		for i, b := range [][]byte{
			framed(netip.AddrPortFrom(far.Addr(), 0), []byte("x")), nameHeader(hostName, 0), fragment, good[:6], {}, {0, 0, 0, 3, 9, 'a', 0, 1},
		} {
			o.write(b, leg)
			eventually(t, fmt.Sprintf("drop %d", i), func() bool { return w.stats().DropReply == uint64(i+2) })
		}
		o.write(good, leg)
		if g := p.datagram(); string(g.payload) != "good" {
			t.Errorf("%+v", g)
		}
	})
}

// An association with a name takes no flow of another source, none to another address,
// and none that is to be redirected; such flows still wait.
func TestNamedAttachErrors(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		id, _ := p.namedFlow(o, app, far)
		stranger := p.datagramFlow(netip.AddrPortFrom(app.Addr(), 5999), far, []byte("x")).Flow
		elsewhere := p.datagramFlow(app, netip.AddrPortFrom(far.Addr().Next(), far.Port()), []byte("x")).Flow
		for _, flow := range []uint64{stranger, elsewhere} {
			if err := w.attach(flow, id); err != unix.EBADF {
				t.Errorf("%v", err)
			}
		}
		flow := p.datagramFlow(app, netip.AddrPortFrom(far.Addr(), 6001), []byte("x")).Flow
		to := link.End{Port: 443, Family: pick[uint16](v.six, 6, 4)}
		copy(to.Host[:], far.Addr().AsSlice())
		var err error
		w.do(func(e *Engine) { err = e.Datagrams().Attach(flow, id, &to, 0) })
		if err != unix.EINVAL {
			t.Errorf("a redirected flow: %v", err)
		}
		o.silence()
		must(t, w.attach(flow, id))
		_, _ = o.read()
	})
}

// A name that is too long, or where there may be none, is refused, and the socket is
// closed.
func TestAssociateNameErrors(t *testing.T) {
	w := newWorld(t, families()[0])
	fds := openFDs(t)
	plain := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		return fd
	}
	w.do(func(e *Engine) {
		for what, c := range map[string]struct {
			leg    datagram.Leg
			shared bool
			name   string
		}{
			"too long": {datagram.Socks5, false, strings.Repeat("a", 256)},
			"shared":   {datagram.Socks5, true, hostName},
			"direct":   {datagram.Direct, false, hostName},
		} {
			if _, err := e.Datagrams().Associate(plain(), c.leg, c.shared, c.name); err != unix.EINVAL {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	eventually(t, fmt.Sprintf("%d fds", fds), func() bool { return openFDs(t) == fds })
}
