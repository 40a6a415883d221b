package engine

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"nanotun/netstack/internal/events"
)

// A flow does not come before those of its class that wait to be told of, nor a stranger's
// before those of known machines; this machine's does not wait for others.
func TestStandingWaitsItsTurn(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		for _, c := range []struct {
			name         string
			waits, comes netip.Addr
			begins       bool
		}{
			{"here, here", v.app(), v.app(), false},
			{"stranger, stranger", stranger(v, 1), stranger(v, 2), false},
			{"known, stranger", stranger(v, 9), stranger(v, 2), false},
			{"stranger, known", stranger(v, 1), stranger(v, 9), true},
			{"stranger, here", stranger(v, 1), v.app(), true},
			{"here, stranger", v.app(), stranger(v, 1), true},
		} {
			p := newPlayer(newWorld(t, v))
			proxy := newSocksServer(t)
			p.do(func(e *Engine) {
				e.parties.completed(&tuple{source: tupleSource(stranger(v, 9)), six: v.six}, time.Now())
				for _, ours := range []bool{true, false} {
					p.stand(e, ours, proxy.course(0), socksAsks, 0)
				}
				other := p.client(1001)
				other.local = netip.AddrPortFrom(c.waits, 1001)
				other.remote = netip.AddrPortFrom(v.far(), 80)
				other.syn()
				p.synFrom(c.comes, 1002)
				e.lent.Store(true) // as if a loop had the device: nobody looks by himself
				e.pump(64, false)
				e.lent.Store(false)
			})
			if c.begins {
				proxy.next()
				p.settle()
				equal(t, c.name, p.ports(events.TCPRequest), 1001)
				continue
			}
			p.settle()
			equal(t, c.name, p.ports(events.TCPRequest), 1001, 1002)
			if n := len(p.stood()); n != 0 {
				t.Errorf("%s: it was dialled", c.name)
			}
		}
	})
}

// A flow that made way and asks again is told of at the rate of those.
func TestStandingAgain(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		pace := hasty()
		pace.rate[again], pace.burst[again] = 0.001, 2
		pace.tenureHere = time.Hour
		s := newStandingWorld(t, v, 0, withPace(16, pace))
		var all []*client
		for port := range uint16(20) {
			all = append(all, s.synFrom(v.app(), 41000+port))
		}
		s.settle()
		if n := s.stats().DropSourceLimit; n != 4 {
			t.Fatalf("%d made way", n)
		}
		s.do(func(e *Engine) { e.pending.clear() })
		for _, c := range all {
			c.syn()
			s.settle()
		}
		counted := uint64(0)
		for _, one := range s.stood() {
			counted += one.Decided
		}
		told := len(s.events(events.TCPRequest))
		if counted != 8+8 || told != 2 {
			t.Errorf("%d dialled, %d told of", counted, told)
		}
	})
}

// A flood of strangers has the engine dial no more than Python would, however quickly the
// proxy answers, and the rest waits as it does without a standing decision.
func TestStandingFloodOfStrangers(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		pace := newPace()
		pace.rate[strangers], pace.burst[strangers] = 0.001, 10
		p := newPlayer(newWorld(t, v, func(c *Config) { c.testPace = &pace }))
		proxy := newSocksServer(t)
		p.do(func(e *Engine) { p.stand(e, false, proxy.course(0), socksAsks, 0) })
		for n := range 100 {
			p.synFrom(stranger(v, n), 100)
			p.settle()
			if n < 10 {
				proxy.grant()
			}
		}
		if all := p.stood(); len(all) != 1 || all[0].Decided != 10 {
			t.Errorf("counted %+v", all)
		}
		if n := len(p.events(events.TCPRequest)); n != 90 {
			t.Errorf("%d are told of", n)
		}
	})
}

// However many SYNs come and however quickly the proxy answers, no more apps than that are
// waited for; and no more flows are dialled than one party may have.
func TestStandingFloodOfThisMachine(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		s := newStandingWorld(t, v, 0, withPace(64, hasty()), func(c *Config) { c.HalfOpenLimit = 8 })
		var granted []*net.TCPConn
		for port := range uint16(40) {
			s.synFrom(v.app(), 41000+port)
			granted = append(granted, s.proxy.grant())
			s.do(func(e *Engine) {
				e.mu.Lock()
				defer e.mu.Unlock()
				if n := e.half.order.Len(); n > 4 {
					t.Errorf("%d are half-open", n)
				}
			})
		}
		eventually(t, "all but four to be given up", func() bool { return s.stats().DropHalfOpen == 36 })
		for _, conn := range granted[:36] {
			expectReset(t, conn)
		}
		for port := range uint16(100) {
			s.synFrom(v.app(), 42000+port)
		}
		s.settle()
		if all := s.stood(); len(all) != 1 || all[0].Decided != 40+32 {
			t.Errorf("counted %+v", all)
		}
		s.tellsNothing(events.TCPRequest, events.Abandoned, events.Crowded)
	})
}

// While this machine's flows are a crowd, each that the engine has joined lets another one be
// told of.
func TestStandingJoinLetsAnotherBeTold(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		pace := newPace()
		pace.crowdedFrom[here], pace.rate[here], pace.burst[here] = 10, 0.001, 10
		pace.turnElsewhere = 1
		s := newStandingWorld(t, v, 0, withPace(1024, &pace))
		for port := range uint16(3) {
			s.synFrom(v.app(), 41000+port)
		}
		s.settle()
		s.do(func(e *Engine) {
			for port := range uint16(20) {
				c := s.client(42000 + port)
				c.remote = netip.AddrPortFrom(v.far(), 80)
				c.syn()
			}
			e.lent.Store(true)
			e.pump(200, false)
			e.lent.Store(false)
		})
		s.event(events.TCPRequest, 10)
		s.settle()
		if n := len(s.events(events.TCPRequest)); n != 10 {
			t.Errorf("%d are told of", n)
		}
		for i := range 3 {
			s.proxy.grant()
			s.event(events.TCPRequest, 11+i)
		}
	})
}
