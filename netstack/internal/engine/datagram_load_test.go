package engine

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"nanotun/netstack/internal/events"
)

// forget lets go of the events so far.
func (w *world) forget() {
	w.mu.Lock()
	w.log = nil
	w.mu.Unlock()
}

// empty takes all that comes out of the device now.
func (p *player) empty() {
	p.t.Helper()
	for _, ok := p.take(); ok; _, ok = p.take() {
	}
}

// Packets from the device, replies, decisions, ends by the caller, by the limit and
// by time, all at once: nothing is lost of what stays, and nothing is left.
func TestDatagramsAllAtOnce(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 100
	}
	for _, lend := range []bool{false, true} {
		t.Run(pick(lend, "lent", "pumped"), func(t *testing.T) {
			goroutines, fds := runtime.NumGoroutine(), openFDs(t)
			t.Run("", func(t *testing.T) {
				w := newWorld(t, corners()[0], func(c *Config) { c.UDPTimeout, c.DatagramFlows, c.Associations = 60*time.Millisecond, 200, 8 })
				p := newPlayer(w)
				decide := newVerdicts(t, 5)
				w.listen(17, 53)
				w.do(func(e *Engine) {
					w.lend = lend
					w.decide = func(event events.Event) { decide.of(e, event) }
				})
				random := rand.New(rand.NewPCG(5, 6))
				app, far := w.v.ends()
				for range rounds {
					for range 64 {
						from := netip.AddrPortFrom(app.Addr(), uint16(5000+random.IntN(12)))
						to := netip.AddrPortFrom(far.Addr(), uint16(6000+random.IntN(12)))
						if random.IntN(20) == 0 {
							to = netip.AddrPortFrom(w.v.gateway(), 53)
						}
						p.sendSegmented(from, to, query(uint16(random.IntN(20)), string(pattern(0, random.IntN(4000)))), 1000)
					}
					p.empty()
					w.do(func(e *Engine) {
						for _, id := range decide.legs {
							if random.IntN(8) == 0 {
								e.Datagrams().Dissociate(id)
							}
						}
						_ = e.Stats()
					})
					w.receive(largestRecord)
					w.forget()
				}
				p.settle()
				w.do(func(*Engine) { w.decide = nil })
				s := w.stats()
				if s.DatagramsUp == 0 || s.DatagramsDown == 0 || s.Refused == 0 || s.AssociationsTotal < 8 {
					t.Errorf("not much happened: %+v", s)
				}
				eventually(t, "all associations to end", func() bool { p.empty(); return w.stats().Associations == 0 })
				p.stillWorks(51000)
			})
			settled(t, goroutines, fds)
		})
	}
}

// Twenty thousand flows, each with a leg of its own, leave fds, goroutines and
// memory as they were.
func TestManyDatagramFlows(t *testing.T) {
	flows := 20_000
	if testing.Short() {
		flows = 3000
	}
	w := newWorld(t, corners()[0], func(c *Config) { c.UDPTimeout = 400 * time.Millisecond })
	p := newPlayer(w)
	o := newVerdicts(t, 1)
	w.do(func(e *Engine) {
		w.decide = func(event events.Event) {
			if err := e.Datagrams().Attach(event.Flow, o.leg(e, event.SourcePort%5 == 0), nil, 0); err != nil {
				t.Errorf("flow %d: %s", event.Flow, err)
			}
		}
	})
	made := 0
	run := func(n int) {
		for range n {
			from := netip.AddrPortFrom(w.v.app(), uint16(1+made%60_000))
			p.sendDatagram(from, netip.AddrPortFrom(w.v.far(), uint16(7000+made/60_000)), query(1, "x"))
			if made++; made%64 == 0 {
				p.settle()
				p.empty()
				w.forget()
			}
		}
		p.settle()
		eventually(t, "the flows to end", func() bool {
			p.empty()
			s := w.stats()
			return s.DatagramFlows == 0 && s.Associations == 0
		})
		w.forget()
	}
	run(1000) // what the process makes once
	// The loops close what has ended.
	w.holdLoops()()
	goroutines, fds, bytes := runtime.NumGoroutine(), openFDs(t), heap()
	run(flows)
	settled(t, goroutines, fds)
	if now := heap(); now > bytes+1<<20 {
		t.Errorf("%d bytes are left of %d flows", now-bytes, flows)
	}
	if s := w.stats(); s.AssociationsTotal != uint64(made) || s.DropUndecided != 0 {
		t.Errorf("%d of %d: %+v", s.AssociationsTotal, made, s)
	}
}
