package engine

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// A joined flow that is ended is reset on both sides, with ECONNABORTED, and one that is held
// on its side; the others go on.
func TestEnd(t *testing.T) {
	waitLong(t)
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		ended, kept := a.open(nil), a.open(nil)
		held, app := a.held(443)
		a.do(func(e *Engine) {
			if n := e.End([]uint64{ended.flow, held, 77}); n != 2 {
				t.Errorf("%d were ended", n)
			}
		})
		if e := a.closed(ended.flow); unix.Errno(e.Error) != unix.ECONNABORTED {
			t.Errorf("closed with %s", unix.Errno(e.Error))
		}
		expectReset(t, ended.up)
		expectReset(t, ended.app)
		exchange(t, kept.app, kept.up, 1000, 1000)
		if e := a.event(events.Abandoned, 1); e.Flow != held {
			t.Errorf("%d is told to be gone", e.Flow)
		}
		expectReset(t, app)
		if s := a.stats(); s.Pending != 0 {
			t.Errorf("%d wait", s.Pending)
		}
	})
}

// One whose app has not completed the handshake is given up.
func TestEndHalfOpen(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.syn()
		flow := p.event(events.TCPRequest, 1).Flow
		up := p.join(flow, nil)
		c.mine("a SYN-ACK", isSYNACK)
		p.do(func(e *Engine) {
			if n := e.End([]uint64{flow}); n != 1 {
				t.Errorf("%d were ended", n)
			}
		})
		if e := p.closed(flow); unix.Errno(e.Error) != unix.ECONNABORTED {
			t.Errorf("closed with %s", unix.Errno(e.Error))
		}
		expectReset(t, up)
		c.transmit(header.TCPFlagAck, nil)
		c.mine("a reset", hasFlag(header.TCPFlagRst))
	})
}

// One that waits for its decision or is dialled is refused with a reset, its dial is dropped,
// and that is told: but not of one that Python does not know, which is queued or dialled by a
// standing decision.
func TestEndWaiting(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		s := newStandingWorld(t, v, 0)
		standing := s.client(40001)
		standing.syn()
		conn := s.proxy.next()
		s.do(func(e *Engine) { e.Withdraw() })
		waiting, dialled := s.client(40002), s.client(40003)
		waiting.syn()
		dialled.syn()
		s.event(events.TCPRequest, 2)
		to := newProxy(t)
		must(t, s.dialBy(s.course(to.course(time.Hour, 0)), s.events(events.TCPRequest)[1].Flow))
		up := to.halfway()
		var ids []uint64
		for _, f := range s.flows() {
			ids = append(ids, f.ID)
		}
		s.do(func(e *Engine) {
			if n := e.End(append(ids, ids...)); n != 3 {
				t.Errorf("%d were ended", n)
			}
			if n := e.End(ids); n != 0 {
				t.Errorf("%d were ended again", n)
			}
		})
		for _, c := range []*client{standing, waiting, dialled} {
			c.mine("a reset", hasFlag(header.TCPFlagRst))
		}
		expectReset(t, conn)
		expectReset(t, up)
		s.event(events.Abandoned, 2)
		s.event(events.StandingEnded, 1)
		s.tellsNothing(events.TCPRequest, events.Abandoned, events.StandingEnded)
		if n := len(s.events(events.Abandoned)); n != 2 {
			t.Errorf("%d are told to be gone", n)
		}
		if stats := s.stats(); stats.Pending != 0 || stats.Refused != 3 {
			t.Errorf("%+v", stats)
		}
	})
}

// One that is queued, because too many are told of, is ended without a word.
func TestEndQueued(t *testing.T) {
	p := newPlayer(newWorld(t, families()[0]))
	c := p.client(40001)
	p.do(func(e *Engine) { // which keeps the pump's thread from telling
		c.syn()
		eventually(t, "the packet to be read", func() bool {
			_, _ = e.Pump(1)
			return e.pending.len() == 1
		})
		if n := e.End([]uint64{e.nextFlow}); n != 1 {
			t.Errorf("%d were ended", n)
		}
	})
	c.mine("a reset", hasFlag(header.TCPFlagRst))
	p.tellsNothing()
}

// Datagrams of a flow that is ended, be it that it waits or is attached, are a new request;
// the end of one that waits is told, as that of one that is attached if anybody follows.
func TestEndDatagrams(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p, o := newPlayer(newWorld(t, v)), newOutside(t)
		app, far := v.ends()
		waiting := p.datagramFlow(app, far, []byte("x")).Flow
		end := func(flow uint64, want int) {
			t.Helper()
			p.do(func(e *Engine) {
				if n := e.End([]uint64{flow}); n != want {
					t.Errorf("%d were ended", n)
				}
			})
		}
		end(waiting, 1)
		if e := p.event(events.Abandoned, 1); e.Flow != waiting || e.Protocol != 17 {
			t.Errorf("%+v", e)
		}
		for i, follow := range []bool{false, true} {
			p.do(func(e *Engine) { e.Follow(follow) })
			p.socksFlow(o, app, far)
			attached := p.events(events.UDPRequest)[i+1].Flow
			end(attached, 1)
			end(attached, 0)
			if follow {
				if e := p.closed(attached); unix.Errno(e.Error) != unix.ECONNABORTED || e.Protocol != 17 {
					t.Errorf("%+v", e)
				}
			}
		}
		if n := len(p.events(events.Closed)); n != 1 {
			t.Errorf("%d ends were told", n)
		}
		refused := p.datagramFlow(app, far, []byte("x")).Flow
		p.do(func(e *Engine) { must(t, e.Refuse(refused, RefuseReset)) })
		end(refused, 0)
	})
}
