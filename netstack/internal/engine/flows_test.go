package engine

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/listing"
)

// flows lists all flows, in pages of two.
func (w *world) flows() (all []listing.Flow) {
	w.t.Helper()
	w.do(func(e *Engine) { all = e.everyFlow(2) })
	return all
}

// everyFlow lists all flows in pages of that size.
func (e *Engine) everyFlow(size int) (all []listing.Flow) {
	after := uint64(0)
	for {
		page := e.Flows(after, size)
		all = append(all, page...)
		if len(page) < size {
			return all
		}
		after = page[size-1].ID
	}
}

// listed is the only flow that is listed.
func (w *world) listed() listing.Flow {
	w.t.Helper()
	all := w.flows()
	if len(all) != 1 {
		w.t.Fatalf("listed: %+v", all)
	}
	return all[0]
}

// listedAs waits until the only flow is in a state, and finds its note.
func (w *world) listedAs(state listing.State, note uint64) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("the flow to be in state %d", state), func() bool { return w.listed().State == state })
	if f := w.listed(); f.Note != note {
		w.t.Errorf("the note is %d, not %d", f.Note, note)
	}
}

// A flow is listed from its SYN to its end, with its ends, its state, what it has carried,
// and its times.
func TestFlowIsListed(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		began := time.Now()
		times := func() listing.Flow {
			t.Helper()
			f := a.listed()
			if passed := uint64(time.Since(began).Microseconds()); f.Age == 0 || f.Age > passed || f.Idle > f.Age {
				t.Errorf("after %d us: %+v", passed, f)
			}
			return f
		}
		j := a.openBy(443, func(flow uint64) *net.TCPConn {
			f := times()
			event := a.events(events.TCPRequest)[0]
			want := listing.Flow{
				ID: flow, State: listing.Waiting, Age: f.Age, Idle: f.Age,
				Family: event.Family, Protocol: 6, Source: event.Source, Destination: event.Destination,
				SourcePort: event.SourcePort, DestPort: event.DestPort,
			}
			if f != want {
				t.Errorf("%+v, not %+v", f, want)
			}
			return a.join(flow, nil)
		})
		a.listedAs(listing.Open, 0)
		exchanged := func(from, to io.ReadWriter, up, down uint64) {
			t.Helper()
			_, err := from.Write([]byte("hello"))
			must(t, err)
			readExactly(t, to, []byte("hello"))
			eventually(t, "the bytes to be counted", func() bool {
				f := times()
				return f.BytesUp == up && f.BytesDown == down
			})
		}
		exchanged(j.app, j.up, 5, 0)
		exchanged(j.up, j.app, 5, 5)
		must(t, j.app.CloseWrite())
		a.listedAs(listing.HalfClosed, 0)
		exchanged(j.up, j.app, 5, 10)
		must(t, j.up.CloseWrite())
		end := a.closed(j.flow)
		if passed := uint64(time.Since(began).Microseconds()); end.Microseconds == 0 || end.Microseconds > passed || end.Standing {
			t.Errorf("after %d us: %+v", passed, end)
		}
		if all := a.flows(); len(all) != 0 {
			t.Errorf("listed: %+v", all)
		}
	})
}

// The other direction may end first.
func TestHalfClosedByTheUpstream(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		j := a.open(nil)
		must(t, j.up.CloseWrite())
		a.listedAs(listing.HalfClosed, 0)
	})
}

// The time of a flow begins with its SYN, and its idle time again with each byte.
func TestTimesOfAFlow(t *testing.T) {
	const while = 20 * time.Millisecond
	a := newApp(newWorld(t, families()[0]))
	j := a.openBy(443, func(flow uint64) *net.TCPConn {
		<-time.After(while)
		return a.join(flow, nil)
	})
	eventually(t, "the flow to be idle", func() bool { return a.listed().Idle > uint64(while.Microseconds()) })
	before := a.listed()
	_, err := j.up.Write([]byte("hello"))
	must(t, err)
	readExactly(t, j.app, []byte("hello"))
	after := a.listed()
	if after.Age < before.Age || after.Age-after.Idle < before.Age {
		t.Errorf("first %+v, then %+v", before, after)
	}
	if before.Age < before.Idle+uint64(while.Microseconds()) {
		t.Errorf("it is idle since it was established: %+v", before)
	}
	j.app.Close()
	_ = j.up.Close()
	if end := a.closed(j.flow); end.Microseconds < after.Age {
		t.Errorf("%+v ends with %+v", after, end)
	}
}

// A flow has the note of the decision by which it is joined, or of the dial, whatever the path,
// and while its app has not completed the handshake; its end has it too.
func TestNotes(t *testing.T) {
	type way func(t *testing.T, p *player, flow uint64, course uint32, to *proxy)
	join := func(p *player, flow, note uint64) {
		u := newUpstream(p.t)
		p.do(func(e *Engine) { must(p.t, e.Join(flow, u.fd, nil, note)) })
	}
	dial := func(p *player, flow, note uint64, course uint32) {
		p.do(func(e *Engine) { must(p.t, e.Dial(flow, course, -1, 0, []byte(dialRequest), note)) })
		p.listedAs(listing.Dialling, note)
	}
	ways := map[string]way{
		"join": func(t *testing.T, p *player, flow uint64, _ uint32, _ *proxy) { join(p, flow, 5) },
		"http": func(t *testing.T, p *player, flow uint64, _ uint32, _ *proxy) {
			u := newUpstream(t)
			p.do(func(e *Engine) { must(t, e.JoinHTTP(flow, u.fd, nil, 5, "name.example", "")) })
		},
		"dial": func(t *testing.T, p *player, flow uint64, course uint32, to *proxy) {
			dial(p, flow, 5, course)
			write(t, to.halfway(), "go")
		},
		"dial and join": func(t *testing.T, p *player, flow uint64, course uint32, to *proxy) {
			dial(p, flow, 5, course)
			_ = to.halfway().Close()
			p.dialled(1)
			p.listedAs(listing.Waiting, 5)
			join(p, flow, 0)
		},
		"dial and join by another": func(t *testing.T, p *player, flow uint64, course uint32, to *proxy) {
			dial(p, flow, 4, course)
			join(p, flow, 5)
		},
		"dial twice": func(t *testing.T, p *player, flow uint64, course uint32, to *proxy) {
			dial(p, flow, 4, course)
			_ = to.halfway()
			p.do(func(e *Engine) { must(t, e.Undial(flow)) })
			p.listedAs(listing.Waiting, 4)
			dial(p, flow, 5, course)
			write(t, to.halfway(), "go")
		},
	}
	forEach(t, corners(), func(t *testing.T, v variant) {
		for name, way := range ways {
			t.Run(name, func(t *testing.T) {
				p, to := newPlayer(newWorld(t, v)), newProxy(t)
				course := p.course(to.course(time.Hour, 0))
				c := p.client(40001)
				c.syn()
				flow := p.event(events.TCPRequest, 1).Flow
				p.listedAs(listing.Waiting, 0)
				way(t, p, flow, course, to)
				p.listedAs(listing.Open, 5)
				if s := p.stats(); s.HalfOpen != 1 {
					t.Errorf("%+v", s)
				}
				c.answerSYNACK()
				eventually(t, "the flow to be established", func() bool { return p.stats().Flows == 1 })
				p.listedAs(listing.Open, 5)
				c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
				if e := p.closed(flow); e.Note != 5 || e.Microseconds == 0 || e.Standing {
					t.Errorf("%+v", e)
				}
			})
		}
	})
}

// A flow that is held to be sniffed waits, though its app is connected, and has its note from
// the join.
func TestNoteOfASniffedFlow(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		for _, dials := range []bool{false, true} {
			a, to := newApp(newWorld(t, v)), newProxy(t)
			flow, conn := a.held(443)
			a.listedAs(listing.Waiting, 0)
			if dials {
				course := a.course(to.course(time.Hour, 0))
				a.do(func(e *Engine) { must(t, e.Dial(flow, course, -1, 0, []byte(dialRequest), 5)) })
				up := to.halfway()
				a.listedAs(listing.Dialling, 5)
				write(t, up, "go")
			} else {
				u := newUpstream(t)
				a.do(func(e *Engine) { must(t, e.Join(flow, u.fd, nil, 5)) })
			}
			a.listedAs(listing.Open, 5)
			a.do(func(e *Engine) { e.End([]uint64{flow}) })
			if e := a.closed(flow); e.Note != 5 {
				t.Errorf("%+v", e)
			}
			_ = conn.Close()
		}
	})
}

// A flow of a standing decision is listed with the decision's note. Its end is told if anybody
// follows, and then says that Python does not know the flow.
func TestNoteOfAStandingDecision(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		s := newStandingWorld(t, v, 0)
		s.do(func(e *Engine) {
			course, err := e.Course(s.proxy.course(0))
			must(t, err)
			_, err = e.Stand(tupleSource(v.far()), 443, v.six, true, uint32(course), socksAsks, 0, 5)
			must(t, err)
		})
		for i, follow := range []bool{false, true} {
			s.do(func(e *Engine) { e.Follow(follow) })
			c := s.client(uint16(40001 + i))
			c.syn()
			conn := s.proxy.next()
			s.listedAs(listing.Dialling, 5)
			flow := s.listed().ID
			_, err := conn.Write(socksGrants)
			must(t, err)
			c.answerSYNACK()
			c.transmit(header.TCPFlagAck|header.TCPFlagPsh, []byte("hello"))
			readExactly(t, conn, []byte("hello"))
			s.listedAs(listing.Open, 5)
			c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
			eventually(t, "the flow to end", func() bool { return len(s.flows()) == 0 })
			if !follow {
				s.tellsNothing(events.Stood, events.StandingEnded)
				continue
			}
			if e := s.closed(flow); e.Note != 5 || !e.Standing || e.BytesUp != 5 || unix.Errno(e.Error) != unix.ECONNRESET {
				t.Errorf("%+v", e)
			}
		}
	})
}

// Pages are in the order of ids, over TCP and UDP together, and have each flow once.
func TestPagesOfFlows(t *testing.T) {
	p, o := newPlayer(newWorld(t, families()[0])), newOutside(t)
	app, far := p.v.ends()
	var want []uint64
	for i := range uint16(12) {
		app := netip.AddrPortFrom(app.Addr(), 5000+i)
		switch i % 3 {
		case 0:
			p.socksFlow(o, app, far)
			want = append(want, p.events(events.UDPRequest)[i/3].Flow)
		default:
			c := p.client(40000 + i)
			c.syn()
			n := int(i/3*2 + i%3)
			flow := p.event(events.TCPRequest, n).Flow
			want = append(want, flow)
			if i%3 == 1 {
				p.join(flow, nil)
			}
		}
	}
	if !slices.IsSorted(want) {
		t.Errorf("the ids are %d", want)
	}
	for _, size := range []int{1, 2, 3, 11, 12, 13, 1000} {
		var ids []uint64
		p.do(func(e *Engine) {
			for _, f := range e.everyFlow(size) {
				ids = append(ids, f.ID)
			}
		})
		if !slices.Equal(ids, want) {
			t.Errorf("in pages of %d: %d, not %d", size, ids, want)
		}
	}
}

// A listing while flows begin, are joined and end has each flow that stays once, and none
// twice.
func TestListingWhileFlowsComeAndGo(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		var stay []uint64
		for range 20 {
			stay = append(stay, a.open(nil).flow)
		}
		u := make(chan upstream, 200)
		for range 200 {
			u <- newUpstream(t)
		}
		a.do(func(*Engine) {
			a.decide = func(e events.Event) {
				select {
				case up := <-u:
					_ = a.engine.Join(e.Flow, up.fd, nil, e.Flow)
				default:
					_ = a.engine.Refuse(e.Flow, RefuseReset)
				}
			}
		})
		const dialers = 4
		done := make(chan struct{}, dialers)
		for range dialers {
			go func() {
				defer func() { done <- struct{}{} }()
				for range 50 {
					if conn, err := a.dial(443); err == nil {
						_ = conn.Close()
					}
				}
			}()
		}
		for running := dialers; running > 0; {
			select {
			case <-done:
				running--
			default:
			}
			all := a.flows()
			var ids []uint64
			for _, f := range all {
				ids = append(ids, f.ID)
				if f.State >= listing.Open && f.Note != f.ID && !slices.Contains(stay, f.ID) {
					t.Errorf("the note of %d is %d", f.ID, f.Note)
				}
			}
			if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
				t.Fatalf("listed: %d", ids)
			}
			for _, id := range stay {
				if !slices.Contains(ids, id) {
					t.Fatalf("%d is not listed", id)
				}
			}
		}
	})
}
