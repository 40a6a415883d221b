package engine

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
)

// An association that nobody uses ends with ETIMEDOUT and its socket is closed; one
// that is used, in either direction, lives on.
func TestIdleAssociation(t *testing.T) {
	const timeout = 400 * time.Millisecond
	forEach(t, corners(), func(t *testing.T, v variant) {
		t.Parallel()
		w := newWorld(t, v, func(c *Config) { c.UDPTimeout = timeout })
		p := newPlayer(w)
		app, far := v.ends()
		up, down, idle, never := newOutside(t), newOutside(t), newOutside(t), newOutside(t)
		from := func(i uint16) netip.AddrPort { return netip.AddrPortFrom(app.Addr(), 5000+i) }
		idUp, _ := p.socksFlow(up, from(0), far)
		idDown, legDown := p.socksFlow(down, from(1), far)
		began := time.Now()
		idIdle, _ := p.socksFlow(idle, from(2), far)
		idNever := w.associate(never.relayLeg(), datagram.Socks5, false)
		ended := func() int { return len(w.events(events.AssociationClosed)) }
		for ended() < 2 || time.Since(began) < 3*timeout {
			p.sendDatagram(from(0), far, []byte("x"))
			up.read()
			down.write(framed(far, []byte("y")), legDown)
			p.datagram()
			if time.Since(began) > patience {
				t.Fatal("the idle ones live on")
			}
			if ended() > 0 && time.Since(began) < timeout-110*time.Millisecond {
				t.Fatal("too early")
			}
			<-time.After(10 * time.Millisecond)
		}
		w.associationClosed(idIdle, unix.ETIMEDOUT)
		w.associationClosed(idNever, unix.ETIMEDOUT)
		if s := w.stats(); s.Associations != 2 || s.AssociationsEvicted != 0 {
			t.Errorf("%+v", s)
		}
		w.associationClosed(idUp, unix.ETIMEDOUT)
		w.associationClosed(idDown, unix.ETIMEDOUT)
		eventually(t, "the flows to go", func() bool { return w.stats().DatagramFlows == 0 })
	})
}

// At the limit a new association takes the place of the one that was idle for
// longest, which ends with ENOBUFS.
func TestEvictedAssociation(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v, func(c *Config) { c.Associations = 3 })
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		from := func(i int) netip.AddrPort { return netip.AddrPortFrom(app.Addr(), uint16(5000+i)) }
		var ids []uint64
		for i := range 3 {
			id, _ := p.socksFlow(o, from(i), far)
			ids = append(ids, id)
		}
		fds := openFDs(t)
		<-time.After(150 * time.Millisecond) // activity is noted to a tenth of a second
		p.sendDatagram(from(0), far, []byte("x"))
		o.read()
		p.socksFlow(o, from(3), far)
		w.associationClosed(ids[1], unix.ENOBUFS)
		p.socksFlow(o, from(4), far)
		w.associationClosed(ids[2], unix.ENOBUFS)
		p.sendDatagram(from(0), far, []byte("y"))
		if b, _ := o.read(); !bytes.Equal(b, framed(far, []byte("y"))) {
			t.Errorf("% x", b)
		}
		p.datagramFlow(from(1), far, []byte("again"))
		eventually(t, "the sockets to be closed", func() bool { return openFDs(t) == fds })
		if s := w.stats(); s.Associations != 3 || s.AssociationsTotal != 5 || s.AssociationsEvicted != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// Dissociate ends an association without an event; what comes for it is dropped,
// and its flow's next datagram is a request.
func TestDissociate(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		fds := openFDs(t)
		id, leg := p.socksFlow(o, app, far)
		w.do(func(e *Engine) { e.Datagrams().Dissociate(id) })
		eventually(t, "the socket to be closed", func() bool { return openFDs(t) == fds })
		o.write(framed(far, []byte("late")), leg)
		p.silence()
		request := p.datagramFlow(app, far, []byte("again"))
		must(t, w.attach(request.Flow, w.associate(o.relayLeg(), datagram.Socks5, false)))
		if b, _ := o.read(); !bytes.Equal(b, framed(far, []byte("again"))) {
			t.Errorf("% x", b)
		}
		<-time.After(100 * time.Millisecond) // more than an event may be late
		if n := len(w.events(events.AssociationClosed)); n != 0 {
			t.Errorf("%d events", n)
		}
	})
}

// A leg whose socket is full drops and goes on.
func TestFullLeg(t *testing.T) {
	w := newWorld(t, corners()[0])
	p := newPlayer(w)
	app, far := w.v.ends()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(ends[1])
	request := p.datagramFlow(app, far, nil)
	must(t, w.attach(request.Flow, w.associate(ends[0], datagram.Socks5, false)))
	for w.stats().DropSend == 0 {
		for range 100 {
			p.sendDatagram(app, far, []byte("x"))
		}
		p.settle()
	}
	// The socket is not UDP's, so datagrams that are sent together stay that.
	came, size := 0, len(framed(far, []byte("x")))
	b := make([]byte, 70000)
	for n := 0; err == nil; n, err = unix.Read(ends[1], b) {
		came += n
	}
	if s := w.stats(); came != size*int(s.DatagramsUp-1)+size-1 {
		t.Errorf("%d bytes came of %d datagrams", came, s.DatagramsUp)
	}
	p.sendDatagram(app, far, []byte("room"))
	p.settle()
	if n, err := unix.Read(ends[1], b); err != nil || !bytes.HasSuffix(b[:n], []byte("room")) {
		t.Errorf("%q, %v", b[:n], err)
	}
	if s := w.stats(); s.Associations != 1 {
		t.Errorf("%+v", s)
	}
}

// Close with flows and associations in every state gives everything back.
func TestCloseWithDatagrams(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		for _, lend := range []bool{false, true} {
			goroutines, fds := runtime.NumGoroutine(), openFDs(t)
			w := newWorld(t, v)
			w.do(func(*Engine) { w.lend = lend })
			p, o := newPlayer(w), newOutside(t)
			app, far := v.ends()
			to := func(i int) netip.AddrPort { return netip.AddrPortFrom(far.Addr(), uint16(6000+i)) }
			_, leg := p.socksFlow(o, app, far)
			w.listen(17, 53)
			for i := range 5 {
				p.datagramFlow(app, to(i), []byte("x"))
			}
			requests := w.events(events.UDPRequest)
			w.associate(o.relayLeg(), datagram.Socks5, false)
			shared := w.associate(o.relayLeg(), datagram.Socks5, true)
			must(t, p.sharedFlow(shared, app, to(9), 7))
			w.do(func(e *Engine) {
				must(t, e.Refuse(requests[1].Flow, RefusePortUnreachable))
				must(t, e.Drop(requests[2].Flow))
				must(t, e.ServeDatagrams(requests[3].Flow))
			})
			p.sendDatagram(app, netip.AddrPortFrom(v.gateway(), 53), []byte("query"))
			p.send(fragments(app, to(1), pattern(0, 3000), 1000, 3, false)[0])
			for range 50 {
				o.write(framed(far, pattern(0, 1000)), leg)
				p.sendDatagram(app, far, []byte("x"))
			}
			started := time.Now()
			w.close()
			if took := time.Since(started); took > patience {
				t.Errorf("Close took %s", took)
			}
			_ = o.conn.Close()
			settled(t, goroutines, fds)
		}
	})
}
