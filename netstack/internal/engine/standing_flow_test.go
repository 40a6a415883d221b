package engine

import (
	"bytes"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/dial"
	"nanotun/netstack/internal/events"
)

// A flow with a standing decision is joined and carried without an event about it; what
// became of it is counted, and that is told.
func TestStandingFlowIsJoined(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		a.do(func(e *Engine) { e.standing.stoodDelay = 0 })
		proxy := newSocksServer(t)
		var number uint64
		a.do(func(e *Engine) { number = a.stand(e, true, proxy.course(0), socksAsks, 0) })
		began := time.Now()
		up := make(chan *net.TCPConn, 1)
		go func() { up <- proxy.grant() }()
		conn := a.mustDial(443)
		took := time.Since(began)
		exchange(t, conn, <-up, 100_000, 100_000)
		eventually(t, "the flow to end", func() bool { s := a.stats(); return s.Flows == 0 && s.FlowsTotal == 1 && s.BytesUp == 100_000 })
		a.event(events.Stood, 1)
		a.tellsNothing(events.Stood)
		all := a.stood()
		if len(all) != 1 || all[0].Microseconds == 0 || all[0].Microseconds > uint64(took.Microseconds()) {
			t.Fatalf("counted %+v", all)
		}
		all[0].Microseconds = 0
		if want := (Stood{Number: number, Decided: 1, Joined: 1}); all[0] != want {
			t.Errorf("counted %+v, not %+v", all[0], want)
		}
	})
}

// A decision about this machine's flows is none about those of others, and the other way
// round; nor about another port.
func TestStandingIsForOneSide(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		for _, ours := range []bool{true, false} {
			p := newPlayer(newWorld(t, v))
			proxy := newSocksServer(t)
			p.do(func(e *Engine) { p.stand(e, ours, proxy.course(0), socksAsks, 0) })
			p.synFrom(pick(ours, v.app(), stranger(v, 1)), 1001)
			p.settle()
			proxy.next()
			p.synFrom(pick(ours, stranger(v, 1), v.app()), 1002)
			p.event(events.TCPRequest, 1)
			other := p.client(1003)
			other.local = netip.AddrPortFrom(pick(ours, v.app(), stranger(v, 1)), 1003)
			other.remote = netip.AddrPortFrom(v.far(), 80)
			other.syn()
			p.event(events.TCPRequest, 2)
			equal(t, "told", p.ports(events.TCPRequest), 1002, 1003)
		}
	})
}

// A dial that has begun goes on when its decision is withdrawn, and the next flow is a
// request; the decision's end is told after that of its flow.
func TestWithdrawInTheMiddle(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		s := newStandingWorld(t, v, 0)
		c := s.client(40001)
		c.syn()
		conn := s.proxy.next()
		s.do(func(e *Engine) { e.Withdraw() })
		s.client(40002).syn()
		s.event(events.TCPRequest, 1)
		_, err := conn.Write(socksGrants)
		must(t, err)
		c.answerSYNACK()
		c.transmit(header.TCPFlagAck|header.TCPFlagPsh, []byte("hello"))
		readExactly(t, conn, []byte("hello"))
		s.tellsNothing(events.TCPRequest)
		c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
		if e := s.event(events.StandingEnded, 1); e.Flow != s.number {
			t.Errorf("%d has ended, not %d", e.Flow, s.number)
		}
		all := s.stood()
		if len(all) != 1 || all[0].Decided != 1 || all[0].Joined != 1 || all[0].Over != 1 {
			t.Errorf("counted %+v", all)
		}
		s.tellsNothing(events.TCPRequest, events.StandingEnded)
	})
}

// When the time of a decision is over, the next flow is a request.
func TestStandingDecisionExpires(t *testing.T) {
	s := newStandingWorld(t, families()[0], 0)
	s.do(func(e *Engine) { s.number = s.stand(e, true, s.proxy.course(0), socksAsks, time.Millisecond) })
	port := uint16(40000)
	eventually(t, "the time to be over", func() bool {
		port++
		s.client(port).syn()
		return len(s.events(events.TCPRequest)) > 0
	})
}

// A dial that fails is told with the decision's number and the flow's ends. The flow waits
// on, is Python's from then on, and can have any decision.
func TestStandingDialFails(t *testing.T) {
	type way func(t *testing.T, s *standingWorld, c *client, flow uint64)
	ways := map[string]way{
		"refused": func(t *testing.T, s *standingWorld, c *client, flow uint64) {
			s.do(func(e *Engine) { must(t, e.Refuse(flow, RefuseReset)) })
			c.mine("a reset", hasFlag(header.TCPFlagRst))
			s.tellsNothing(events.DialEnded)
		},
		"joined": func(t *testing.T, s *standingWorld, c *client, flow uint64) {
			up := s.join(flow, nil)
			c.answerSYNACK()
			c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
			s.closed(flow)
			_ = up.Close()
			s.tellsNothing(events.DialEnded, events.Closed)
		},
		"dialled again": func(t *testing.T, s *standingWorld, c *client, flow uint64) {
			s.do(func(e *Engine) {
				course, err := e.Course(s.proxy.course(0))
				must(t, err)
				must(t, e.Dial(flow, uint32(course), -1, 0, socksAsks, 0))
			})
			s.proxy.grant()
			s.event(events.Joined, 1)
			c.answerSYNACK()
			c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
			s.closed(flow)
			s.tellsNothing(events.DialEnded, events.Joined, events.Closed)
		},
		"abandoned": func(t *testing.T, s *standingWorld, c *client, flow uint64) {
			c.seq++
			c.transmit(header.TCPFlagRst, nil)
			if e := s.event(events.Abandoned, 1); e.Flow != flow {
				t.Errorf("flow %d is abandoned", e.Flow)
			}
			s.tellsNothing(events.DialEnded, events.Abandoned)
		},
	}
	forEach(t, families(), func(t *testing.T, v variant) {
		for name, end := range ways {
			t.Run(name, func(t *testing.T) {
				s := newStandingWorld(t, v, 0)
				c := s.client(40001)
				c.syn()
				conn := s.proxy.next()
				_, err := conn.Write(socksRefuses)
				must(t, err)
				event := s.event(events.DialEnded, 1)
				want := pick(v.six, "6/6 [fdfe:dcba:9876::2]:40001 > [2001:db8::7]:443", "4/6 198.18.0.2:40001 > 203.0.113.7:443")
				if got := describe(event); got != want || event.BytesUp != s.number || event.Flow == 0 {
					t.Errorf("flow %d of decision %d is %s", event.Flow, event.BytesUp, got)
				}
				s.do(func(e *Engine) {
					end, err := e.Dialled(event.Flow)
					must(t, err)
					if end.Kind != dial.HandedOn || !bytes.Equal(end.Received, append([]byte{5, 0}, socksRefuses...)) {
						t.Errorf("%+v", end)
					}
					_ = unix.Close(end.FD)
				})
				s.silence()
				end(t, s, c, event.Flow)
				if all := s.stood(); len(all) != 1 || all[0].Decided != 1 || all[0].Joined != 0 {
					t.Errorf("counted %+v", all)
				}
			})
		}
	})
}

// A dial that is silent for too long is told with the decision's number, and is Python's:
// its success, its end and its app's reset are told.
func TestStandingDialIsSilent(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		for _, answers := range []bool{true, false} {
			s := newStandingWorld(t, v, 20*time.Millisecond)
			c := s.client(40001)
			c.syn()
			conn := s.proxy.next()
			event := s.event(events.DialSilent, 1)
			if event.BytesUp != s.number || event.SourcePort != 40001 {
				t.Errorf("%+v", event)
			}
			if answers {
				_, err := conn.Write(socksGrants)
				must(t, err)
				if e := s.event(events.DialEnded, 1); e.BytesUp != s.number || e.Flow != event.Flow {
					t.Errorf("%+v", e)
				}
			}
			c.seq++
			c.transmit(header.TCPFlagRst, nil)
			s.event(events.Abandoned, 1)
			if all := s.stood(); len(all) != 1 || all[0].Joined != 0 {
				t.Errorf("counted %+v", all)
			}
			s.do(func(e *Engine) { e.Withdraw() })
			s.event(events.StandingEnded, 1)
		}
	})
}

// A flow that ends while it is dialled, and Python was not told of it, ends without a word,
// and so does its dial.
func TestUntoldDialEndsSilently(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		s := newStandingWorld(t, v, 0)
		reset, anew := s.client(40001), s.client(40002)
		reset.syn()
		first := s.proxy.next()
		anew.syn()
		second := s.proxy.next()
		reset.seq++
		reset.transmit(header.TCPFlagRst, nil)
		anew.seq += 77777
		anew.syn()
		third := s.proxy.next()
		expectReset(t, first)
		expectReset(t, second)
		_, err := third.Write(socksGrants)
		must(t, err)
		anew.answerSYNACK()
		s.tellsNothing()
		if n := s.stats().Pending; n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

// For how long a dial had gone on is counted if its flow ends without a word: Python may
// doubt a proxy that was silent for so long. If Python knows the flow, it has its own clock.
func TestAbandonedDialsAreCounted(t *testing.T) {
	ends := map[string]func(s *standingWorld, c *client){
		"reset":    func(s *standingWorld, c *client) { c.seq++; c.transmit(header.TCPFlagRst, nil) },
		"anew":     func(s *standingWorld, c *client) { c.seq += 77777; c.syn() },
		"made way": func(s *standingWorld, c *client) { s.client(40002).syn(); s.event(events.TCPRequest, 1) },
	}
	for name, end := range ends {
		for _, told := range []bool{false, true} {
			t.Run(name+pick(told, " when it was told of", ""), func(t *testing.T) {
				s := newStandingWorld(t, families()[0], pick(told, time.Millisecond, 0), withPace(2, hasty()))
				c := s.client(40001)
				c.syn()
				s.proxy.next()
				if told {
					s.event(events.DialSilent, 1)
				}
				began := time.Now()
				s.do(func(e *Engine) {
					e.pending.mu.Lock()
					defer e.pending.mu.Unlock()
					for _, w := range e.pending.byFlow {
						w.member.since = began.Add(-5 * time.Second)
					}
				})
				end(s, c)
				s.settle()
				all := s.stood()
				if len(all) != 1 || (all[0].Abandoned >= 5_000_000) == told {
					t.Errorf("counted %+v", all)
				}
				if told && all[0].Abandoned != 0 || time.Duration(all[0].Abandoned)*time.Microsecond > 5*time.Second+time.Since(began) {
					t.Errorf("counted %+v", all)
				}
			})
		}
	}
}

// Whatever becomes of the only flow of a decision, that decision's end is told exactly once:
// with the flow's, or with its own if that comes later.
func TestStandingEndsOnce(t *testing.T) {
	const halfOpen = 50 * time.Millisecond
	ends := map[string]func(s *standingWorld, c *client, conn *net.TCPConn){
		"reset while it is dialled": func(s *standingWorld, c *client, conn *net.TCPConn) {
			c.seq++
			c.transmit(header.TCPFlagRst, nil)
		},
		"dropped after it failed": func(s *standingWorld, c *client, conn *net.TCPConn) {
			_ = conn.Close()
			flow := s.event(events.DialEnded, 1).Flow
			s.do(func(e *Engine) { must(s.t, e.Drop(flow)) })
		},
		"joined by Python": func(s *standingWorld, c *client, conn *net.TCPConn) {
			_ = conn.Close()
			_ = s.join(s.event(events.DialEnded, 1).Flow, nil)
		},
		"joined by Python while it is dialled": func(s *standingWorld, c *client, conn *net.TCPConn) {
			var flow uint64
			s.do(func(e *Engine) {
				for flow = range e.pending.byFlow {
				}
			})
			_ = s.join(flow, nil)
		},
		"never completed": func(s *standingWorld, c *client, conn *net.TCPConn) {
			_, err := conn.Write(socksGrants)
			must(s.t, err)
		},
		"established and reset": func(s *standingWorld, c *client, conn *net.TCPConn) {
			_, err := conn.Write(socksGrants)
			must(s.t, err)
			c.answerSYNACK()
			c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
		},
		"made way": func(s *standingWorld, c *client, conn *net.TCPConn) {
			s.client(40002).syn()
			s.event(events.TCPRequest, 1)
		},
		"past the flow limit": func(s *standingWorld, c *client, conn *net.TCPConn) {
			s.do(func(e *Engine) {
				e.mu.Lock()
				defer e.mu.Unlock()
				e.config.FlowLimit = 0
			})
			_, err := conn.Write(socksGrants)
			must(s.t, err)
		},
		"past the end": func(s *standingWorld, c *client, conn *net.TCPConn) {
			s.do(func(e *Engine) { e.Quiesce() })
			_, err := conn.Write(socksGrants)
			must(s.t, err)
		},
	}
	for name, end := range ends {
		for _, first := range []bool{false, true} {
			t.Run(name+pick(first, " after it was withdrawn", ""), func(t *testing.T) {
				s := newStandingWorld(t, families()[0], 0, withPace(2, hasty()), func(c *Config) { c.HalfOpen = halfOpen })
				c := s.client(40001)
				c.syn()
				conn := s.proxy.next()
				if first {
					s.do(func(e *Engine) { e.Withdraw() })
				}
				s.tellsNothing()
				end(s, c, conn)
				if !first {
					eventually(t, "the flow to end", func() (gone bool) {
						s.do(func(e *Engine) {
							e.standing.mu.Lock()
							defer e.standing.mu.Unlock()
							gone = e.standing.order.Front().Value.(*standing).flows == 0
						})
						return gone
					})
					if n := len(s.events(events.StandingEnded)); n != 0 {
						t.Error("it ends before it is withdrawn")
					}
					s.do(func(e *Engine) { e.Withdraw() })
				}
				if e := s.event(events.StandingEnded, 1); e.Flow != s.number {
					t.Errorf("%d ends", e.Flow)
				}
				if all := s.stood(); len(all) != 1 || all[0].Over != 1 {
					t.Errorf("counted %+v", all)
				}
				s.do(func(e *Engine) { e.Withdraw() })
				if n := len(s.events(events.StandingEnded)); n != 1 {
					t.Errorf("it ends %d times", n)
				}
			})
		}
	}
}

// Close with dials under way, unanswered SYN-ACKs and an established flow by a standing
// decision ends all connections of the proxy, and leaves nothing.
func TestCloseWithStandingDials(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		goroutines, fds := runtime.NumGoroutine(), openFDs(t)
		t.Run("world", func(t *testing.T) {
			s := newStandingWorld(t, v, 0)
			established := s.client(40001)
			established.syn()
			conns := []*net.TCPConn{s.proxy.grant()}
			established.answerSYNACK()
			s.client(40002).syn()
			conns = append(conns, s.proxy.grant())
			for port := range uint16(10) {
				s.client(41000 + port).syn()
				conns = append(conns, s.proxy.next())
			}
			s.close()
			if !s.engine.standing.closed {
				t.Error("its timers run")
			}
			for _, conn := range conns {
				expectReset(t, conn)
			}
		})
		settled(t, goroutines, fds)
	})
}

// Decisions that come, go and are told of while flows begin, are joined and end in other
// threads count each flow once.
func TestStandingUnderWay(t *testing.T) {
	const flows = 300
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v, func(c *Config) { c.testPace = hasty() })
		w.do(func(*Engine) { w.lend = true })
		a := newApp(w)
		proxy := newSocksServer(t)
		go func() {
			for range flows {
				conn := proxy.grant()
				_ = conn.CloseWrite()
			}
		}()
		a.do(func(e *Engine) { a.stand(e, true, proxy.course(0), socksAsks, 0) })
		decided, joined := uint64(0), uint64(0)
		count := func() {
			for _, one := range a.stood() {
				decided += one.Decided
				joined += one.Joined
			}
		}
		for range flows {
			conn := a.mustDial(443)
			must(t, conn.CloseWrite())
			a.do(func(e *Engine) { a.stand(e, true, proxy.course(0), socksAsks, 0) })
			count()
		}
		eventually(t, "all flows to end", func() bool { return a.stats().Flows == 0 })
		count()
		if decided != flows || joined != flows {
			t.Errorf("%d dialled and %d joined of %d", decided, joined, flows)
		}
		a.event(events.StandingEnded, flows)
	})
}
