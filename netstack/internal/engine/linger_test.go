package engine

import (
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// lingers is how many flows linger.
func (w *world) lingers() int {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return len(w.engine.linger.flows)
}

// fallen ends a flow in order but for the app's last ACK.
func (c *client) fallen(n int) joined {
	c.t.Helper()
	j := c.connect(n)
	c.transmit(header.TCPFlagFin|header.TCPFlagAck, nil)
	if _, err := io.ReadAll(j.up); err != nil {
		c.t.Fatal(err)
	}
	must(c.t, j.up.Close())
	fin := c.mine("a FIN", hasFlag(header.TCPFlagFin))
	c.ack = fin.SequenceNumber() + 1
	c.closed(j.flow)
	return j
}

// A flow that has ended lingers until its app's last ACK, or its reset.
func TestLingers(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		w.withoutProcessors()
		p := newPlayer(w)
		for i, flags := range []header.TCPFlags{header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagRst} {
			c := p.client(uint16(40001 + i))
			c.fallen(i + 1)
			if n := p.lingers(); n != 1 {
				t.Fatalf("%d linger", n)
			}
			c.transmit(flags, nil)
			p.settle()
			p.allClosed()
		}
	})
}

// The app may go on for a while after the upstream's end; its data then ends a flow whose
// upstream takes nothing more.
func TestLingersForData(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		w.withoutProcessors()
		p := newPlayer(w)
		c := p.client(40001)
		c.syn()
		fd, other := pair(t)
		flow := p.event(events.TCPRequest, 1).Flow
		p.do(func(e *Engine) { must(t, e.Join(flow, fd, nil, 0)) })
		c.answerSYNACK()
		eventually(t, "the flow to be established", func() bool { return p.stats().Flows == 1 })
		must(t, unix.Close(other)) // a service of ours that is through
		fin := c.mine("a FIN", hasFlag(header.TCPFlagFin))
		c.ack = fin.SequenceNumber() + 1
		c.transmit(header.TCPFlagAck, nil)
		p.closed(flow)
		if n := p.lingers(); n != 1 {
			t.Fatalf("%d linger", n)
		}
		c.transmit(header.TCPFlagAck, []byte("more"))
		c.mine("a reset", hasFlag(header.TCPFlagRst))
		p.settle()
		p.allClosed()
	})
}

// An app that never answers keeps its flow in the table for lingerFor, and no longer.
func TestLingersNotForEver(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		p.client(40001).fallen(1)
		sweep := func(later time.Duration, want int) {
			t.Helper()
			p.engine.mu.Lock()
			p.engine.linger.sweep(time.Now().Add(later))
			armed := p.engine.linger.armed
			p.engine.mu.Unlock()
			if n := p.lingers(); n != want || armed != (want > 0) {
				t.Errorf("%d linger, and the timer is set: %t", n, armed)
			}
		}
		sweep(lingerFor/2, 1)
		sweep(lingerFor, 0)
	})
}

// One that the stack's timers close is swept out.
func TestLingersUntilATimer(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		p.client(40001).fallen(1)
		p.engine.mu.Lock()
		lingers := slices.Collect(maps.Values(p.engine.linger.flows))
		p.engine.mu.Unlock()
		for _, one := range lingers {
			one.flow.Endpoint.Abort()
		}
		p.engine.sweepLingering()
		p.allClosed()
	})
}

// A full table takes no more, and those that are not in it close all the same.
func TestLingersFull(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		p.engine.linger.limit = 1
		first, second := p.client(40001), p.client(40002)
		first.fallen(1)
		second.fallen(2)
		if n := p.lingers(); n != 1 {
			t.Errorf("%d linger", n)
		}
		second.transmit(header.TCPFlagAck, nil)
		first.transmit(header.TCPFlagAck, nil)
		p.settle()
		p.allClosed()
	})
}

// An app may use its port again as soon as its flow is through, and in TIME-WAIT with its
// second or third SYN at the latest.
func TestPortIsUsedAgain(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		for _, appFirst := range []bool{true, false} {
			p := newPlayer(newWorld(t, v))
			c := p.client(40001)
			if appFirst {
				c.fallen(1)
				c.transmit(header.TCPFlagAck, nil)
			} else {
				j := c.connect(1)
				must(t, j.up.CloseWrite())
				fin := c.mine("a FIN", hasFlag(header.TCPFlagFin))
				c.ack = fin.SequenceNumber() + 1
				c.transmit(header.TCPFlagAck|header.TCPFlagFin, nil)
				p.closed(j.flow)
			}
			c.seq += 100000
			eventually(t, "a second request", func() bool {
				c.syn()
				p.settle()
				return len(p.events(events.TCPRequest)) == 2
			})
			c.ack = 0
			up := p.join(p.event(events.TCPRequest, 2).Flow, nil)
			c.answerSYNACK()
			c.transmit(header.TCPFlagAck, []byte("again"))
			readExactly(t, up, []byte("again"))
		}
	})
}

// An app that asks for a new connection while the old one waits for its ACK is told where
// that one is, and what it answers ends it.
func TestPortIsUsedAgainTooEarly(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		w.withoutProcessors()
		p := newPlayer(w)
		c := p.client(40001)
		c.fallen(1)
		old := *c
		c.seq += 100000
		c.syn()
		challenge := c.mine("a challenge", hasFlag(header.TCPFlagAck))
		if challenge.AckNumber() != old.seq {
			t.Errorf("it acknowledges %d, not %d", challenge.AckNumber(), old.seq)
		}
		old.transmit(header.TCPFlagRst, nil)
		c.syn()
		p.event(events.TCPRequest, 2)
	})
}

// Close with flows that linger leaves none.
func TestCloseWithLingering(t *testing.T) {
	p := newPlayer(newWorld(t, families()[0]))
	p.client(40001).fallen(1)
	p.do(func(e *Engine) { e.Close() })
	if n := p.lingers(); n != 0 {
		t.Errorf("%d linger", n)
	}
	p.abandon()
}
