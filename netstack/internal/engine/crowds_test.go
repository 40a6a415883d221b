package engine

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"nanotun/netstack/internal/events"
)

// hasty is a pace without tenures and without a limit to what is told.
func hasty() *pace {
	p := newPace()
	p.tenureHere, p.tenureElsewhere = 0, 0
	p.turnHere, p.turnElsewhere = 1000, 1000
	for k := range classes {
		p.rate[k] = rate.Inf
	}
	return &p
}

func withPace(limit int, p *pace) func(*Config) {
	return func(c *Config) { c.PendingLimit, c.testPace = limit, p }
}

// stranger is the n-th machine elsewhere, in a /64 of its own.
func stranger(v variant, n int) netip.Addr {
	if v.six {
		a := netip.MustParseAddr("2001:db8:1::9").As16()
		a[6], a[7] = byte(n>>8), byte(n)
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, 78, byte(n >> 8), byte(n)})
}

// synFrom sends a SYN of a machine.
func (p *player) synFrom(source netip.Addr, port uint16) *client {
	c := p.client(port)
	c.local = netip.AddrPortFrom(source, port)
	c.syn()
	return c
}

// ports are the source ports of the events of a kind, in order.
func (p *player) ports(kind uint32) (ports []uint16) {
	for _, e := range p.events(kind) {
		ports = append(ports, e.SourcePort)
	}
	return ports
}

func equal(t *testing.T, what string, got []uint16, want ...uint16) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %v, not %v", what, got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: %v, not %v", what, got, want)
			return
		}
	}
}

// Somebody who has all the flows that one may have under way gets the newest in, and
// the longest-waiting is abandoned and counted; others are not touched.
func TestNewestGetsIn(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(8, hasty())))
		p.synFrom(stranger(v, 1), 100)
		p.settle()
		for port := range uint16(6) {
			p.synFrom(v.app(), 42000+port)
			p.settle()
		}
		equal(t, "told", p.ports(events.TCPRequest), 100, 42000, 42001, 42002, 42003, 42004, 42005)
		equal(t, "abandoned", p.ports(events.Abandoned), 42000, 42001)
		if s := p.stats(); s.Pending != 5 || s.DropSourceLimit != 2 || s.DropPendingLimit != 0 {
			t.Errorf("pending %d, %d made way for their own, %d for others", s.Pending, s.DropSourceLimit, s.DropPendingLimit)
		}
	})
}

// The programs of one user do not make way for those of another, who gets in; once there
// are enough flows for the kernel to be asked.
func TestUsersAreParties(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		w := newWorld(t, v, withPace(16, hasty()))
		w.do(func(e *Engine) {
			e.parties.askFrom = 4
			e.parties.userOf = func(t *tuple) user { return user{uid: uint32(t.sourcePort / 1000), known: true} }
		})
		p := newPlayer(w)
		for port := range uint16(4) { // of nobody in particular
			p.synFrom(v.app(), 41000+port)
			p.settle()
		}
		p.synFrom(v.app(), 43000)
		for port := range uint16(20) {
			p.synFrom(v.app(), 42000+port)
			p.settle()
		}
		for _, port := range p.ports(events.Abandoned) {
			if port == 43000 {
				t.Error("the other user's flow made way")
			}
		}
		if e := p.event(events.Crowded, 1); crowding(e.Error) != crowdMachine {
			t.Errorf("%+v", e)
		}
		if s := p.stats(); s.Pending != 12 {
			t.Errorf("%d wait", s.Pending)
		}
	})
}

// While strangers' part of the queue is full, most of their SYNs are forgotten at once and
// counted; those of this machine and of known machines are not, and all is as before once
// the queue has emptied.
func TestOverrun(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		pace := newPace()
		pace.crowdedFrom[strangers], pace.rate[strangers], pace.burst[strangers] = 1, 0.001, 1
		w := newWorld(t, v, withPace(16, &pace))
		p := newPlayer(w)
		for n := range 20 {
			p.synFrom(stranger(v, n), 100)
		}
		p.settle()
		w.do(func(e *Engine) {
			e.overrun.SetBurst(0)
			if !e.pending.overrun.Load() {
				t.Error("12 places were enough for 20")
			}
		})
		before := p.stats()
		p.synFrom(stranger(v, 30), 100)
		p.settle()
		after := p.stats()
		if after.DropPendingLimit != before.DropPendingLimit+1 || after.Pending != before.Pending {
			t.Errorf("%d made way, %d wait", after.DropPendingLimit-before.DropPendingLimit, after.Pending)
		}
		w.do(func(e *Engine) {
			e.parties.completed(&tuple{source: tupleSource(stranger(v, 31)), six: v.six}, time.Now())
		})
		p.synFrom(stranger(v, 31), 100)
		p.synFrom(v.app(), 42000)
		eventually(t, "both to be told of", func() bool {
			told := 0
			for _, e := range p.events(events.TCPRequest) {
				if e.SourcePort == 42000 || e.Source == tupleSource(stranger(v, 31)) {
					told++
				}
			}
			return told == 2
		})
		w.do(func(e *Engine) {
			e.pending.clear()
			if e.pending.overrun.Load() {
				t.Error("an empty queue is full")
			}
		})
	})
}

// tupleSource is an address as events and tuples have it.
func tupleSource(a netip.Addr) (source [16]byte) {
	copy(source[:], a.AsSlice())
	return source
}

// Whoever has too many is named to Python once, with how many there may be.
func TestCrowdIsReported(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(8, hasty())))
		p.do(func(e *Engine) { e.pending.notices.interval = time.Hour })
		for port := range uint16(8) {
			p.synFrom(v.app(), 42000+port)
			p.settle()
		}
		for port := range uint16(8) {
			p.synFrom(stranger(v, 1), 100+port)
			p.settle()
		}
		for i, want := range []crowding{crowdProgram, crowdSource} {
			e := p.event(events.Crowded, i+1)
			if crowding(e.Error) != want || e.Flow != 1 || e.BytesDown != 4 || e.BytesUp != noUser {
				t.Errorf("%+v", e)
			}
		}
		if n := len(p.events(events.Crowded)); n != 2 {
			t.Errorf("told %d times", n)
		}
	})
}

// A flood of strangers leaves this machine a quarter of the dials.
func TestFloodLeavesAQuarter(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(16, hasty())))
		for n := range 100 {
			p.synFrom(stranger(v, n), 100)
		}
		p.settle()
		for port := range uint16(4) {
			p.synFrom(v.app(), 42000+port)
		}
		for n := range 100 {
			p.synFrom(stranger(v, 100+n), 101)
		}
		p.settle()
		for _, port := range p.ports(events.Abandoned) {
			if port >= 42000 {
				t.Errorf("%d made way for strangers", port)
			}
		}
		if s := p.stats(); s.Pending != 16 || s.DropPendingLimit != 188 {
			t.Errorf("pending %d, %d made way", s.Pending, s.DropPendingLimit)
		}
	})
}

// The machines of one IPv6 network are one, however many addresses they use.
func TestOneNetworkIsOneParty(t *testing.T) {
	v := families()[1]
	p := newPlayer(newWorld(t, v, withPace(16, hasty())))
	source := stranger(v, 1)
	for n := range uint16(10) {
		source = source.Next()
		p.synFrom(source, 100+n)
		p.settle()
	}
	equal(t, "abandoned", p.ports(events.Abandoned), 100, 101)
}

// steady is a pace at which nobody makes way, so that the queue fills.
func steady() *pace {
	p := newPace()
	p.tenureHere, p.tenureElsewhere = time.Hour, time.Hour
	return &p
}

// drainNow is one Drain on the pump's thread: the ports of the requests in it.
func (p *player) drainNow() (ports []uint16) {
	p.do(func(e *Engine) {
		e.Drain(256, func(event *events.Event) {
			if event.Kind == events.TCPRequest {
				ports = append(ports, event.SourcePort)
			}
		})
	})
	return ports
}

// A flow that Python was not told of ends without an event, whether its app resets it,
// asks anew, or it makes way.
func TestUntoldFlowEndsSilently(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(8, steady())))
		for port := range uint16(4) {
			p.synFrom(v.app(), 41000+port)
		}
		p.settle()
		reset := p.synFrom(v.app(), 42000)
		anew := p.synFrom(v.app(), 42001)
		p.settle()
		reset.seq++
		reset.transmit(4, nil)
		anew.seq += 77777
		anew.syn()
		for port := range uint16(10) {
			p.synFrom(v.app(), 43000+port)
		}
		p.settle()
		equal(t, "told", p.ports(events.TCPRequest), 41000, 41001, 41002, 41003)
		equal(t, "abandoned", p.ports(events.Abandoned))
		if s := p.stats(); s.Pending != 8 || s.DropSourceLimit != 7 {
			t.Errorf("pending %d, %d made way", s.Pending, s.DropSourceLimit)
		}
	})
}

// Each turn tells of the flows here, then of no more than a few from elsewhere: known
// machines first, and each machine in its turn. The eventfd says that there are more.
func TestTurns(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		p.do(func(e *Engine) {
			for n := range 20 {
				s := p.client(uint16(1000 + n))
				s.local = netip.AddrPortFrom(stranger(v, 1), s.local.Port())
				s.syn()
			}
			p.synFrom(stranger(v, 2), 2000)
			p.synFrom(stranger(v, 3), 3000)
			p.synFrom(v.app(), 42000)
			friend := tuple{source: tupleSource(stranger(v, 3)), six: v.six}
			e.parties.completed(&friend, time.Now())
			e.lent.Store(true) // as if a loop had the device: nobody looks by himself
			e.pump(64, false)
			e.lent.Store(false)
			var turns [][]uint16
			for range 4 {
				var turn []uint16
				e.Drain(256, func(event *events.Event) { turn = append(turn, event.SourcePort) })
				turns = append(turns, turn)
			}
			equal(t, "first turn", turns[0], 42000, 3000, 1000, 2000, 1001, 1002, 1003, 1004, 1005)
			equal(t, "second turn", turns[1], 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013)
			equal(t, "third turn", turns[2], 1014, 1015, 1016, 1017, 1018, 1019)
			equal(t, "fourth turn", turns[3])
		})
	})
}

// A SYN that waits for a dial to be old enough is told without a further packet.
func TestTenureEnds(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		pace := newPace()
		pace.tenureHere = 150 * time.Millisecond
		p := newPlayer(newWorld(t, v, withPace(8, &pace)))
		for port := range uint16(4) {
			p.synFrom(v.app(), 41000+port)
		}
		p.settle()
		p.synFrom(v.app(), 42000)
		p.settle()
		equal(t, "abandoned at once", p.ports(events.Abandoned))
		if e := p.event(events.TCPRequest, 5); e.SourcePort != 42000 {
			t.Errorf("told of %d", e.SourcePort)
		}
		equal(t, "abandoned", p.ports(events.Abandoned), 41000)
	})
}

// A flow that waits for a place is told of when another is decided, whether it is
// joined, refused or dropped, or its app gives up.
func TestPlaceBecomesFree(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(8, steady())))
		var first []*client
		for port := range uint16(4) {
			first = append(first, p.synFrom(v.app(), 41000+port))
		}
		p.settle()
		for port := range uint16(4) {
			p.synFrom(v.app(), 42000+port)
		}
		p.settle()
		told := p.events(events.TCPRequest)
		if len(told) != 4 {
			t.Fatalf("%d are told of", len(told))
		}
		p.join(told[0].Flow, nil)
		p.event(events.TCPRequest, 5)
		p.do(func(e *Engine) { must(t, e.Refuse(told[1].Flow, RefuseReset)) })
		p.event(events.TCPRequest, 6)
		p.do(func(e *Engine) { must(t, e.Drop(told[2].Flow)) })
		p.event(events.TCPRequest, 7)
		first[3].seq++
		first[3].transmit(4, nil)
		p.event(events.TCPRequest, 8)
	})
}

// While more come than may be told of in a second, the newest of a machine come first,
// and no more than the rate are told; this machine's are not held up.
func TestCrowdedClass(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		pace := newPace()
		pace.crowdedFrom[strangers], pace.rate[strangers], pace.burst[strangers] = 50, 0.001, 10
		p := newPlayer(newWorld(t, v, withPace(1024, &pace)))
		p.do(func(e *Engine) {
			for n := range uint16(100) {
				p.synFrom(stranger(v, 1), 1000+n)
			}
			p.synFrom(v.app(), 42000)
			e.lent.Store(true)
			e.pump(200, false)
			e.lent.Store(false)
			var ports []uint16
			for range 10 {
				e.Drain(256, func(event *events.Event) { ports = append(ports, event.SourcePort) })
			}
			equal(t, "told", ports, 42000, 1099, 1098, 1097, 1096, 1095, 1094, 1093, 1092, 1091, 1090)
		})
	})
}

// A flow that made way and asks again comes after those that ask for the first time,
// and again flows are told of at a rate of their own.
func TestAgainComesLater(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		pace := hasty()
		pace.rate[again], pace.burst[again] = 0.001, 2
		p := newPlayer(newWorld(t, v, withPace(16, pace)))
		var all []*client
		for port := range uint16(14) {
			all = append(all, p.synFrom(v.app(), 41000+port))
			p.settle()
		}
		gone := []uint16{41000, 41001, 41002, 41003, 41004, 41005}
		equal(t, "abandoned", p.ports(events.Abandoned), gone...)
		p.do(func(e *Engine) {
			for _, c := range all[:6] {
				c.syn()
			}
			p.synFrom(v.app(), 42000)
			e.lent.Store(true)
			e.pump(200, false)
			e.lent.Store(false)
			var ports []uint16
			for range 10 {
				e.Drain(256, func(event *events.Event) {
					if event.Kind == events.TCPRequest {
						ports = append(ports, event.SourcePort)
					}
				})
			}
			equal(t, "told", ports, 42000, 41000, 41001)
		})
	})
}

// While this machine's flows are a crowd, each that is joined lets another one be told
// of, so that a quick proxy is used to the full.
func TestAnsweredDialsGoOn(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		pace := newPace()
		pace.crowdedFrom[here], pace.rate[here], pace.burst[here] = 10, 0.001, 10
		pace.turnElsewhere = 1
		w := newWorld(t, v, withPace(1024, &pace))
		p := newPlayer(w)
		p.do(func(e *Engine) {
			for n := range uint16(20) {
				p.synFrom(v.app(), 41000+n)
			}
			e.lent.Store(true)
			e.pump(200, false)
			e.lent.Store(false)
		})
		p.event(events.TCPRequest, 10)
		p.settle()
		if n := len(p.events(events.TCPRequest)); n != 10 {
			t.Errorf("%d are told of", n)
		}
		for i := range 5 {
			p.join(p.events(events.TCPRequest)[i].Flow, nil)
			p.event(events.TCPRequest, 11+i)
		}
	})
}

// After Quiesce nothing is told of any more.
func TestNothingToldAfterQuiesce(t *testing.T) {
	forEach(t, everyPath(families()), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(8, steady())))
		for port := range uint16(6) {
			p.synFrom(v.app(), 41000+port)
		}
		p.settle()
		p.do(func(e *Engine) {
			e.Quiesce()
			must(t, e.Drop(p.events(events.TCPRequest)[0].Flow))
			e.Drain(256, func(event *events.Event) { t.Errorf("event %d", event.Kind) })
		})
	})
}
