package engine

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// A SYN becomes one request that names its flow, and the app hears nothing
// before the decision.
func TestSYNBecomesARequest(t *testing.T) {
	forEach(t, everyPath(everyVariant()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.syn()
		e := p.event(events.TCPRequest, 1)
		want := pick(v.six, "6/6 [fdfe:dcba:9876::2]:40001 > [2001:db8::7]:443", "4/6 198.18.0.2:40001 > 203.0.113.7:443")
		if got := describe(e); got != want || e.Flow == 0 {
			t.Errorf("request %d is %s, not %s", e.Flow, got, want)
		}
		p.silence()
		if s := p.stats(); s.Pending != 1 || s.Flows != 0 {
			t.Errorf("pending %d, flows %d", s.Pending, s.Flows)
		}
	})
}

// The same SYN again is no second request.
func TestRepeatedSYN(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		for range 3 {
			c.syn()
		}
		p.silence()
		if n := len(p.events(events.TCPRequest)); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// A SYN with another sequence number ends the waiting flow and is a new one.
func TestSYNWithAnotherISN(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.syn()
		first := p.event(events.TCPRequest, 1)
		c.seq += 77777
		c.syn()
		second := p.event(events.TCPRequest, 2)
		if gone := p.event(events.Abandoned, 1); gone.Flow != first.Flow || second.Flow == first.Flow {
			t.Errorf("first %d, abandoned %d, second %d", first.Flow, gone.Flow, second.Flow)
		}
		p.do(func(e *Engine) {
			if err := e.Drop(first.Flow); err != unix.ENOENT {
				t.Errorf("the abandoned flow: %v", err)
			}
			if err := e.Drop(second.Flow); err != nil {
				t.Errorf("the new flow: %v", err)
			}
		})
		if s := p.stats(); s.Pending != 0 {
			t.Errorf("%d still wait", s.Pending)
		}
	})
}

// A reset of a waiting flow abandons it, and nothing answers a reset.
func TestResetOfAWaitingFlow(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.syn()
		request := p.event(events.TCPRequest, 1)
		c.seq++
		c.transmit(header.TCPFlagRst, nil)
		if gone := p.event(events.Abandoned, 1); gone.Flow != request.Flow {
			t.Errorf("flow %d was abandoned, not %d", gone.Flow, request.Flow)
		}
		c.transmit(header.TCPFlagRst, nil)
		p.silence()
		if n := len(p.events(events.Abandoned)); n != 1 {
			t.Errorf("abandoned %d times", n)
		}
	})
}

// A reset with a wrong checksum ends no waiting flow.
func TestResetWithABadChecksum(t *testing.T) {
	forEach(t, append(families(), corners()...), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.syn()
		p.event(events.TCPRequest, 1)
		c.seq++
		s := c.segment(header.TCPFlagRst, nil)
		s.badChecksum = true
		p.send(s.packet())
		p.silence()
		if len(p.events(events.Abandoned)) != 0 {
			t.Error("abandoned")
		}
	})
}

// A SYN with a wrong checksum is counted and no request, unless the kernel
// says that it has yet to fill the checksum in.
func TestSYNWithABadChecksum(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		s := c.segment(header.TCPFlagSyn, nil)
		s.badChecksum = true
		p.send(s.packet())
		p.silence()
		if n := len(p.events(events.TCPRequest)); n != 0 {
			t.Errorf("%d requests", n)
		}
		if n := p.stats().ChecksumErrors; n != 1 {
			t.Errorf("%d checksum errors", n)
		}
		if !v.vnet {
			return
		}
		size := pick[byte](v.six, header.IPv6MinimumSize, header.IPv4MinimumSize)
		p.sendRaw(append([]byte{1, 0, 0, 0, 0, 0, size, 0, header.TCPChecksumOffset, 0}, s.packet()...))
		p.event(events.TCPRequest, 1)
	})
}

// A segment of no flow is answered with a reset, a SYN-ACK or FIN too.
func TestSegmentOfNoFlow(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		for i, flags := range []header.TCPFlags{header.TCPFlagAck, header.TCPFlagSyn | header.TCPFlagAck, header.TCPFlagFin | header.TCPFlagAck} {
			c := p.client(uint16(41000 + i))
			c.ack = 555
			c.transmit(flags, nil)
			if r := c.mine("a reset", hasFlag(header.TCPFlagRst)); r.SequenceNumber() != 555 {
				t.Errorf("flags %s: reset at %d", flags, r.SequenceNumber())
			}
		}
		p.silence()
	})
}

// A SYN beyond the flow limit is turned away and counted.
func TestFlowLimit(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.FlowLimit = 2 }))
		for i := range 2 {
			p.client(uint16(42000 + i)).syn()
			p.join(p.event(events.TCPRequest, i+1).Flow, nil)
		}
		p.client(42002).syn()
		p.settle()
		if s := p.stats(); s.Pending != 0 || s.DropFlowLimit != 1 {
			t.Errorf("with the flow limit reached: %+v", s)
		}
	})
}

// Other machines leave an eighth of all flows to this one.
func TestFlowReserve(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.FlowLimit = 8 }))
		told := 0
		ask := func(source netip.Addr, port uint16) (joined bool) {
			p.synFrom(source, port)
			p.settle()
			if len(p.events(events.TCPRequest)) == told {
				return false
			}
			told++
			p.join(p.event(events.TCPRequest, told).Flow, nil)
			return true
		}
		for n := range 8 {
			if joined := ask(stranger(v, n), 100); joined != (n < 7) {
				t.Errorf("stranger %d: %t", n, joined)
			}
		}
		if !ask(v.app(), 42000) || ask(v.app(), 42001) {
			t.Error("this machine has another number of flows than one")
		}
		if s := p.stats(); s.DropFlowLimit != 2 {
			t.Errorf("%d turned away", s.DropFlowLimit)
		}
	})
}

// The flow limit holds, and no socket is lost, when more flows wait for a
// decision than may be joined and all of them are joined.
func TestJoinPastTheFlowLimit(t *testing.T) {
	const limit, flows = 2, 8
	w := newWorld(t, families()[0], func(c *Config) { c.FlowLimit = limit })
	p := newPlayer(w)
	before := openFDs(t)
	for port := range uint16(flows) {
		p.client(43000 + port).syn()
	}
	p.settle()
	for _, e := range p.events(events.TCPRequest) {
		u := newUpstream(t)
		p.do(func(engine *Engine) { _ = engine.Join(e.Flow, u.fd, nil, 0) })
		_ = u.conn.Close()
	}
	w.do(func(e *Engine) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if n := len(e.opening) + len(e.joined); n > limit {
			t.Errorf("%d flows are held, the limit is %d", n, limit)
		}
	})
	if after := openFDs(t); after > before+limit {
		t.Errorf("%d sockets are held, the limit is %d", after-before, limit)
	}
}

// Refuse, Drop and Join of a flow that does not wait say ENOENT, and Join
// closes the socket all the same.
func TestUnknownFlow(t *testing.T) {
	w := newWorld(t, families()[0])
	before := openFDs(t)
	u := newUpstream(t)
	w.do(func(e *Engine) {
		if err := e.Join(12345, u.fd, []byte("x"), 0); err != unix.ENOENT {
			t.Errorf("Join: %v", err)
		}
		if err := e.Refuse(12345, RefuseReset); err != unix.ENOENT {
			t.Errorf("Refuse: %v", err)
		}
		if err := e.Drop(12345); err != unix.ENOENT {
			t.Errorf("Drop: %v", err)
		}
	})
	if n, err := u.conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("the upstream still reads: %d", n)
	}
	_ = u.conn.Close()
	if after := openFDs(t); after > before {
		t.Errorf("%d fds, before %d", after, before)
	}
}

// TCP to the gateway gets no answer and no request, and is counted.
func TestTCPToTheGateway(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.remote = netip.AddrPortFrom(v.gateway(), 53)
		c.syn()
		c.transmit(header.TCPFlagAck, []byte("x"))
		p.silence()
		if n := p.stats().DropGateway; n != 2 || len(p.events(events.TCPRequest)) != 0 {
			t.Errorf("%d drops, %d requests", n, len(p.events(events.TCPRequest)))
		}
	})
}

// An engine that nobody talks to says nothing.
func TestNothingUnasked(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) { newPlayer(newWorld(t, v)).silence() })
}
