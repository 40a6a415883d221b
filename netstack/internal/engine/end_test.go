package engine

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// A joined flow that is ended is reset on both sides, with ECONNABORTED; the others, and
// one that still waits, go on.
func TestEnd(t *testing.T) {
	waitLong(t)
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		ended, kept := a.open(nil), a.open(nil)
		held, _ := a.held(443)
		a.do(func(e *Engine) {
			if n := e.End([]uint64{ended.flow, held, 77}); n != 1 {
				t.Errorf("%d were ended", n)
			}
		})
		if e := a.closed(ended.flow); unix.Errno(e.Error) != unix.ECONNABORTED {
			t.Errorf("closed with %s", unix.Errno(e.Error))
		}
		expectReset(t, ended.up)
		expectReset(t, ended.app)
		exchange(t, kept.app, kept.up, 1000, 1000)
		if s := a.stats(); s.Pending != 1 {
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
