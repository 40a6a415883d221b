package engine

import (
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

var isSYNACK = hasFlag(header.TCPFlagSyn | header.TCPFlagAck)

// A flow whose app never answers the SYN-ACK ends when its time is over, with
// ETIMEDOUT and a reset of the upstream; it is counted as half-open until then, and
// leaves no goroutine and no fd.
func TestHalfOpenEnds(t *testing.T) {
	const after = 300 * time.Millisecond
	forEach(t, everyPath(everyVariant()), func(t *testing.T, v variant) {
		w := newWorld(t, v, func(c *Config) { c.HalfOpen = after })
		p := newPlayer(w)
		goroutines, fds := runtime.NumGoroutine(), openFDs(t)
		c := p.client(40001)
		c.syn()
		flow := p.event(events.TCPRequest, 1).Flow
		began := time.Now()
		up := p.join(flow, nil)
		c.mine("a SYN-ACK", isSYNACK)
		if s := p.stats(); s.HalfOpen != 1 || s.Flows != 0 || s.Pending != 0 {
			t.Errorf("half-open %d, flows %d, pending %d", s.HalfOpen, s.Flows, s.Pending)
		}
		if e := p.closed(flow); unix.Errno(e.Error) != unix.ETIMEDOUT {
			t.Errorf("closed with %s", unix.Errno(e.Error))
		}
		if took := time.Since(began); took < after {
			t.Errorf("ended after %s", took)
		}
		expectReset(t, up)
		_ = up.Close()
		if s := p.stats(); s.HalfOpen != 0 || s.DropHalfOpen != 1 || s.FlowsTotal != 0 {
			t.Errorf("half-open %d, dropped %d, total %d", s.HalfOpen, s.DropHalfOpen, s.FlowsTotal)
		}
		settled(t, goroutines, fds)
	})
}

// An app that answers in time keeps its flow, however long that lasts.
func TestHalfOpenIsOver(t *testing.T) {
	const after = 100 * time.Millisecond
	forEach(t, everyPath(corners()), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v, func(c *Config) { c.HalfOpen = after }))
		j := a.open(nil)
		// The time of one that began later shows that the first one's is over.
		p := newPlayer(a.world)
		p.client(50001).syn()
		later := a.event(events.TCPRequest, 2).Flow
		_ = p.join(later, nil)
		p.closed(later)
		exchange(t, j.app, j.up, 1000, 1000)
	})
}

// With as many half-open flows as one may have, one more is joined all the same:
// the one that has waited longest ends, with ECONNABORTED.
func TestHalfOpenLimit(t *testing.T) {
	forEach(t, everyPath(corners()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.HalfOpenLimit = 6 }))
		var flows []uint64
		var last *client
		for i := range 5 {
			last = p.client(uint16(42000 + i))
			last.syn()
			flows = append(flows, p.event(events.TCPRequest, i+1).Flow)
			_ = p.join(flows[i], nil)
		}
		for _, flow := range flows[:2] {
			if e := p.closed(flow); unix.Errno(e.Error) != unix.ECONNABORTED {
				t.Errorf("flow %d closed with %s", flow, unix.Errno(e.Error))
			}
		}
		last.answerSYNACK()
		eventually(t, "the last one to be established", func() bool {
			s := p.stats()
			return s.Flows == 1 && s.HalfOpen == 2 && s.DropHalfOpen == 2
		})
	})
}

// The app of a flow that was given up gets a reset for its late answer, and may ask
// again with the same port.
func TestAfterHalfOpen(t *testing.T) {
	forEach(t, everyPath(corners()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.HalfOpenLimit = 1 }))
		c := p.client(40001)
		c.syn()
		first := p.event(events.TCPRequest, 1).Flow
		_ = p.join(first, nil)
		synAck := c.mine("a SYN-ACK", isSYNACK)
		other := p.client(40002)
		other.syn()
		_ = p.join(p.event(events.TCPRequest, 2).Flow, nil)
		p.closed(first)
		late := c.segment(header.TCPFlagAck, nil)
		late.seq, late.ack = c.seq+1, synAck.SequenceNumber()+1
		p.send(late.packet())
		c.mine("a reset", hasFlag(header.TCPFlagRst))
		c.seq += 100000
		c.syn()
		_ = p.join(p.event(events.TCPRequest, 3).Flow, nil)
		c.answerSYNACK()
		eventually(t, "the second try to be established", func() bool { return p.stats().Flows == 1 })
	})
}

// synACKOrEnd waits for the SYN-ACK of a flow, or for the flow's end.
func (c *client) synACKOrEnd(flow uint64) (synAck header.TCP, came bool) {
	c.t.Helper()
	eventually(c.t, "a SYN-ACK, or the flow's end", func() bool {
		ended := slices.ContainsFunc(c.events(events.Closed), func(e events.Event) bool { return e.Flow == flow })
		for r, ok := c.take(); ok; r, ok = c.take() {
			if r.tcp != nil && r.tcp.DestinationPort() == c.local.Port() && isSYNACK(r.tcp) {
				synAck, came = r.tcp, true
			}
		}
		return came || ended
	})
	return synAck, came
}

// A flow that has to make way before its handshake has begun ends without a word to its
// app, which will ask again.
func TestMakesWayBeforeTheSYNACK(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.HalfOpenLimit = 1 }))
		gate := make(chan struct{})
		for _, loop := range p.engine.loops {
			loop.Call(func() { <-gate })
		}
		first, second := p.client(40001), p.client(40002)
		first.syn()
		flow := p.event(events.TCPRequest, 1).Flow
		_ = p.join(flow, nil)
		second.syn()
		_ = p.join(p.event(events.TCPRequest, 2).Flow, nil)
		close(gate)
		if e := p.closed(flow); unix.Errno(e.Error) != unix.ECONNABORTED {
			t.Errorf("closed with %s", unix.Errno(e.Error))
		}
		for synAck := false; !synAck; {
			switch r := p.next(); r.tcp.DestinationPort() {
			case 40001:
				t.Errorf("the first app hears %s", r)
			case 40002:
				synAck = isSYNACK(r.tcp)
			}
		}
		p.mark(func(r received) {
			if r.tcp != nil && r.tcp.DestinationPort() == 40001 {
				t.Errorf("the first app hears %s", r)
			}
		})
		first.syn()
		_ = p.join(p.event(events.TCPRequest, 3).Flow, nil)
		first.answerSYNACK()
		eventually(t, "the second try to be established", func() bool { return p.stats().Flows == 1 })
	})
}

// An answer in the very moment in which the flow's time is over leads to a flow that
// is carried or to one that is reset, never to one that is neither.
func TestAnswerInTheLastMoment(t *testing.T) {
	const after, rounds = 20 * time.Millisecond, 100
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.HalfOpen = after }))
		carried := 0
		for i := range rounds {
			c := p.client(uint16(43000 + i))
			c.syn()
			flow := p.event(events.TCPRequest, i+1).Flow
			began := time.Now()
			up := p.join(flow, nil)
			synAck, came := c.synACKOrEnd(flow)
			if !came { // a busy machine: the flow was given up before its handshake began
				_ = up.Close()
				continue
			}
			// The answer's time sweeps over the flow's end.
			time.Sleep(after - time.Since(began) + time.Duration(i%40-20)*50*time.Microsecond)
			c.seq, c.ack = c.seq+1, synAck.SequenceNumber()+1
			c.transmit(header.TCPFlagAck, nil)
			c.transmit(header.TCPFlagAck|header.TCPFlagPsh, []byte("x"))
			_, err := io.ReadFull(up, make([]byte, 1))
			switch {
			case err == nil:
				carried++
			case !wasReset(err):
				t.Errorf("round %d: %s", i, err)
			}
			_ = up.Close()
			c.transmit(header.TCPFlagRst, nil)
			p.closed(flow)
		}
		t.Logf("%d of %d were carried", carried, rounds)
		eventually(t, "all to be gone", func() bool { s := p.stats(); return s.HalfOpen == 0 && s.Flows == 0 })
	})
}
