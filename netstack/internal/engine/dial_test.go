package engine

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/dial"
	"nanotun/netstack/internal/events"
)

// A dial joins its flow: what was left over comes first, bytes go both ways whole, and
// Joined comes before Closed.
func TestDialJoins(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		to := newProxy(t)
		course := a.course(to.course(time.Hour, 0))
		j := a.openBy(443, func(flow uint64) *net.TCPConn {
			must(t, a.dialBy(course, flow))
			up := to.halfway()
			write(t, up, "go"+"left over")
			return up
		})
		readExactly(t, j.app, []byte("left over"))
		exchange(t, j.app, j.up, 1<<20, 1<<20)
		if e := a.closed(j.flow); e.Error != 0 || e.BytesUp != 1<<20 || e.BytesDown != 1<<20+9 {
			t.Errorf("%+v", e)
		}
		for i, kind := range []uint32{events.TCPRequest, events.Joined, events.Closed} {
			if a.log[i].Kind != kind || a.log[i].Flow != j.flow {
				t.Errorf("event %d is %+v", i, a.log[i])
			}
		}
		if e := a.log[1]; e.BytesUp == 0 || e.BytesUp > uint64(patience.Microseconds()) || e.Error != 0 {
			t.Errorf("%+v", e)
		}
	})
}

// What is not on the course ends the dial, its connection and bytes are given out once, and
// the flow waits on for any decision.
func TestDialHandedOn(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		h := newHalfDialled(t, v)
		write(t, h.up, "no")
		end := h.dialled(1)
		if end.Kind != dial.HandedOn || end.Step != 1 || string(end.Received) != "okno" {
			t.Fatalf("%+v", end)
		}
		h.do(func(e *Engine) {
			if _, err := e.Dialled(h.flow); err != unix.ENOENT {
				t.Errorf("once more: %v", err)
			}
			must(t, e.Join(h.flow, end.FD, nil, 0))
		})
		h.client.answerSYNACK()
		h.client.transmit(header.TCPFlagAck|header.TCPFlagPsh, []byte("up"))
		readExactly(t, h.up, []byte("up"))
		if n := len(h.events(events.Joined)); n > 0 {
			t.Errorf("%d flows are told to be joined by a dial", n)
		}
	})
}

// After a dial that failed, another one may join the flow.
func TestDialAgain(t *testing.T) {
	h := newHalfDialled(t, families()[0])
	_ = h.up.Close()
	if end := h.dialled(1); end.Kind != dial.Lost || end.Error != 0 || end.Step != 1 {
		t.Errorf("%+v", end)
	}
	must(t, h.dialBy(h.course, h.flow))
	write(t, h.proxy.halfway(), "go")
	h.client.answerSYNACK()
	if e := h.event(events.Joined, 1); e.Flow != h.flow {
		t.Errorf("%+v", e)
	}
}

// Whatever takes a flow out of those that wait resets the dial, and no word of it follows.
func TestDialIsDropped(t *testing.T) {
	for name, leave := range map[string]func(*halfDialled){
		"join": func(h *halfDialled) {
			u := newUpstream(h.t)
			h.do(func(e *Engine) { must(h.t, e.Join(h.flow, u.fd, nil, 0)) })
		},
		"refuse":  func(h *halfDialled) { h.do(func(e *Engine) { must(h.t, e.Refuse(h.flow, RefuseReset)) }) },
		"drop":    func(h *halfDialled) { h.do(func(e *Engine) { must(h.t, e.Drop(h.flow)) }) },
		"undial":  func(h *halfDialled) { h.do(func(e *Engine) { must(h.t, e.Undial(h.flow)) }) },
		"reset":   func(h *halfDialled) { h.client.seq++; h.client.transmit(header.TCPFlagRst, nil) },
		"new SYN": func(h *halfDialled) { h.client.seq += 77777; h.client.syn() },
		"close":   func(h *halfDialled) { h.close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHalfDialled(t, families()[0])
			leave(h)
			expectReset(t, h.up)
			for _, kind := range []uint32{events.DialEnded, events.Joined} {
				if found := h.events(kind); len(found) > 0 {
					t.Errorf("%+v", found)
				}
			}
		})
	}
}

// The connection that a dial has handed on goes with its flow, if nobody takes it.
func TestHandedOnAndGone(t *testing.T) {
	for name, leave := range map[string]func(*halfDialled){
		"refuse": func(h *halfDialled) { h.do(func(e *Engine) { must(h.t, e.Refuse(h.flow, RefuseReset)) }) },
		"undial": func(h *halfDialled) { h.do(func(e *Engine) { must(h.t, e.Undial(h.flow)) }) },
		"reset":  func(h *halfDialled) { h.client.seq++; h.client.transmit(header.TCPFlagRst, nil) },
		"close":  func(h *halfDialled) { h.close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHalfDialled(t, families()[0])
			write(t, h.up, "no")
			h.event(events.DialEnded, 1)
			leave(h)
			expectReset(t, h.up)
			if name == "close" {
				return
			}
			h.settle()
			h.do(func(e *Engine) {
				if _, err := e.Dialled(h.flow); err != unix.ENOENT {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// A flow whose dial is dropped by undial may be dialled again.
func TestUndial(t *testing.T) {
	h := newHalfDialled(t, families()[0])
	h.do(func(e *Engine) {
		must(t, e.Undial(h.flow))
		if err := e.Undial(h.flow); err != unix.ENOENT {
			t.Errorf("once more: %v", err)
		}
	})
	must(t, h.dialBy(h.course, h.flow))
	write(t, h.proxy.halfway(), "go")
	h.client.answerSYNACK()
	h.event(events.Joined, 1)
}

// A flow that makes way drops its dial.
func TestDialMakesWay(t *testing.T) {
	p := newPlayer(newWorld(t, families()[0], withPace(1, hasty())))
	to := newProxy(t)
	course := p.course(to.course(time.Hour, 0))
	p.client(42000).syn()
	flow := p.event(events.TCPRequest, 1).Flow
	must(t, p.dialBy(course, flow))
	up := to.halfway()
	p.client(42001).syn()
	if e := p.event(events.Abandoned, 1); e.Flow != flow {
		t.Errorf("%+v", e)
	}
	expectReset(t, up)
}

// A dial beyond the limit of joined flows tells that its flow is gone, and resets the
// connection.
func TestDialPastTheFlowLimit(t *testing.T) {
	p := newPlayer(newWorld(t, families()[0], func(c *Config) { c.FlowLimit = 1 }))
	to := newProxy(t)
	course := p.course(to.course(time.Hour, 0))
	var ups []*net.TCPConn
	for i := range 2 {
		p.client(42000 + uint16(i)).syn()
		must(t, p.dialBy(course, p.event(events.TCPRequest, i+1).Flow))
		ups = append(ups, to.halfway())
	}
	write(t, ups[0], "go")
	p.event(events.Joined, 1)
	write(t, ups[1], "go")
	e := p.event(events.Abandoned, 1)
	if e.Flow != p.events(events.TCPRequest)[1].Flow || e.Error != int32(unix.EMFILE) {
		t.Errorf("%+v", e)
	}
	expectReset(t, ups[1])
	if s := p.stats(); s.DropFlowLimit != 1 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
}

// A dial of a standing decision beyond the limit is told, too, though Python does not know the
// flow; one that is good while everything ends is no such case.
func TestStandingDialPastTheFlowLimit(t *testing.T) {
	for _, ends := range []bool{false, true} {
		s := newStandingWorld(t, families()[0], 0)
		s.client(40001).syn()
		conn := s.proxy.next()
		s.do(func(e *Engine) {
			if ends {
				e.Quiesce()
				return
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			e.config.FlowLimit = 0
		})
		_, err := conn.Write(socksGrants)
		must(t, err)
		expectReset(t, conn)
		if !ends {
			if e := s.event(events.Abandoned, 1); e.Error != int32(unix.EMFILE) {
				t.Errorf("%+v", e)
			}
		}
		s.tellsNothing(pick[uint32](ends, events.StandingEnded, events.Abandoned))
	}
}

// A dial that is silent for too long is told of, and joins nothing from then on.
func TestDialSilent(t *testing.T) {
	p := newPlayer(newWorld(t, families()[0]))
	to := newProxy(t)
	course := p.course(to.course(time.Hour, time.Millisecond))
	p.client(42000).syn()
	flow := p.event(events.TCPRequest, 1).Flow
	must(t, p.dialBy(course, flow))
	up := to.halfway()
	if e := p.event(events.DialSilent, 1); e.Flow != flow || e.BytesUp != 0 {
		t.Errorf("%+v", e)
	}
	write(t, up, "go")
	end := p.dialled(1)
	if end.Kind != dial.HandedOn || string(end.Received) != dialReceived {
		t.Errorf("%+v", end)
	}
	_ = unix.Close(end.FD)
}

// The time of a dial that nobody answers is over.
func TestDialExpires(t *testing.T) {
	p := newPlayer(newWorld(t, families()[0]))
	to := newProxy(t)
	course := p.course(to.course(10*time.Millisecond, 0))
	p.client(42000).syn()
	must(t, p.dialBy(course, p.event(events.TCPRequest, 1).Flow))
	if end := p.dialled(1); end.Kind != dial.Expired || end.FD >= 0 {
		t.Errorf("%+v", end)
	}
}

// A connection that waited is used from the step that it has come to, and is closed if it
// cannot be.
func TestDialOnAConnection(t *testing.T) {
	h := newHalfDialled(t, families()[0])
	h.do(func(e *Engine) { must(t, e.Undial(h.flow)) })
	attempt := func(flow uint64, course uint32, first int, want error) *net.TCPConn {
		t.Helper()
		u := newUpstream(t)
		h.do(func(e *Engine) {
			if err := e.Dial(flow, course, u.fd, first, []byte(dialRequest), 0); err != want {
				t.Errorf("%v, not %v", err, want)
			}
		})
		return u.conn
	}
	expectReset(t, attempt(h.flow+1, h.course, 1, unix.ENOENT))
	expectReset(t, attempt(h.flow, h.course+1, 1, unix.EINVAL))
	expectReset(t, attempt(h.flow, h.course, 2, unix.EINVAL))
	up := attempt(h.flow, h.course, 1, nil)
	expectReset(t, attempt(h.flow, h.course, 1, unix.EALREADY))
	readExactly(t, up, []byte(dialRequest))
	write(t, up, "go")
	h.client.answerSYNACK()
	h.event(events.Joined, 1)
}

// A course that is forgotten serves no new dial, and those under way go on.
func TestUncourse(t *testing.T) {
	h := newHalfDialled(t, families()[0])
	h.do(func(e *Engine) {
		must(t, e.Uncourse(h.course))
		if err := e.Uncourse(h.course); err != unix.EINVAL {
			t.Errorf("once more: %v", err)
		}
	})
	if err := h.dialBy(h.course, h.flow); err != unix.EINVAL {
		t.Errorf("a new dial: %v", err)
	}
	write(t, h.up, "go")
	h.client.answerSYNACK()
	if next := h.world.course(h.proxy.course(time.Hour, 0)); next == h.course {
		t.Error("the number was given out again")
	}
}

// A flow whose app was accepted before is joined by a dial as any other.
func TestDialOfASniffedFlow(t *testing.T) {
	waitLong(t)
	a := newApp(newWorld(t, families()[0]))
	to := newProxy(t)
	course := a.course(to.course(time.Hour, 0))
	flow, conn := a.held(443)
	write(t, conn, "early")
	must(t, a.dialBy(course, flow))
	up := to.halfway()
	write(t, up, "go"+"down")
	readExactly(t, conn, []byte("down"))
	readExactly(t, up, []byte("early"))
	if e := a.event(events.Joined, 1); e.Flow != flow {
		t.Errorf("%+v", e)
	}
}

// Close with dials in every state leaves no fd.
func TestCloseWithDials(t *testing.T) {
	fds := openFDs(t)
	p := newPlayer(newWorld(t, families()[0]))
	to := newProxy(t)
	course := p.course(to.course(time.Hour, 0))
	for i := range 5 {
		p.client(42000 + uint16(i)).syn()
		must(t, p.dialBy(course, p.event(events.TCPRequest, i+1).Flow))
		switch i {
		case 0: // joined
			write(t, to.halfway(), "go")
			p.event(events.Joined, 1)
		case 1: // ended
			write(t, to.accept(), "no")
			p.event(events.DialEnded, 1)
		case 2:
			to.halfway()
		case 3:
			to.accept()
		}
	}
	p.close()
	_ = to.listener.Close()
	eventually(t, "all fds to be closed", func() bool { return openFDs(t) <= fds+4 }) // the proxy's ends
}

// A thousand dials with every end leave nothing behind.
func TestManyDials(t *testing.T) {
	const flows, together = 1000, 16
	fds := openFDs(t)
	w := newWorld(t, families()[0])
	a := newApp(w)
	to := newProxy(t)
	course := a.course(to.course(time.Hour, 0))
	go func() {
		for n := 0; ; n++ {
			conn, err := to.listener.AcceptTCP()
			if err != nil {
				return
			}
			go serve(conn, n%5)
		}
	}()
	w.do(func(e *Engine) {
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		w.decide = func(request events.Event) { check(e.Dial(request.Flow, course, -1, 0, []byte(dialRequest), 0)) }
		w.hear = func(event events.Event) {
			if event.Kind != events.DialEnded {
				return
			}
			end, err := e.Dialled(event.Flow)
			check(err)
			if err == nil && end.FD >= 0 {
				_ = unix.Close(end.FD)
			}
			check(e.Refuse(event.Flow, RefuseReset))
		}
	})
	ends := make(chan *gonet.TCPConn, flows)
	turns := make(chan struct{}, together)
	for range flows {
		turns <- struct{}{}
		go func() {
			conn, err := a.dial(443)
			if err == nil {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}
			<-turns
			ends <- conn
		}()
	}
	opened := 0
	for range flows {
		if conn := <-ends; conn != nil {
			opened++
		}
	}
	if opened < flows/5 {
		t.Errorf("%d were joined", opened)
	}
	a.nothingLeft()
	w.do(func(e *Engine) {
		if n := len(e.pending.byFlow) + len(e.pending.byTuple) + len(e.joined) + len(e.opening); n > 0 {
			t.Errorf("%d entries are left", n)
		}
	})
	a.vanish()
	w.close()
	_ = to.listener.Close()
	eventually(t, "all fds to be closed", func() bool { return openFDs(t) <= fds })
}
