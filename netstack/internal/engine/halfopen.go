package engine

import (
	"container/list"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// handshakes has the joined flows whose app has not completed the handshake. Each
// holds a goroutine, an fd and a connection of the proxy, so they have a limit and a
// time. gVisor would repeat its SYN-ACK for 127 s and reads no option about that.
//
// Rules
//   - A flow enters with its join and leaves when it is established or ends.
//   - A flow that is given up leaves the order, and stays in leaving until it has
//     ended: its endpoint may not have been made yet, so it is looked for again.
//   - All of it is under Engine.mu.
type handshakes struct {
	notices *notices
	after   time.Duration // how long one may wait
	crowd   *crowd
	order   list.List // of *joinedFlow, the longest-waiting first
	leaving map[*joinedFlow]struct{}
	timer   *time.Timer
	due     time.Time // when the timer goes off; zero: it does not
	closed  bool
}

// looks is into how many parts a flow's time is divided: one of them is how late its
// end may be, and how long it takes until an endpoint is looked for again.
const looks = 100

func newHandshakes(notices *notices, limit int, after time.Duration, look func()) *handshakes {
	h := &handshakes{notices: notices, after: after, crowd: newCrowd(limit), leaving: make(map[*joinedFlow]struct{})}
	h.timer = time.AfterFunc(time.Hour, look)
	h.timer.Stop()
	return h
}

// enter takes a flow in and returns the one that makes way for it, or nil. The
// caller gives that up once it has released Engine.mu.
func (h *handshakes) enter(f *joinedFlow, p party, now time.Time) (yields *joinedFlow) {
	if m, rule := h.crowd.yields(p); m != nil {
		yields = m.what.(*joinedFlow)
		_, limit := h.crowd.crowding(m.line.party, rule)
		h.notices.note(crowdHalfOpen, &yields.tuple, m.line.party, limit, now)
		h.giveUp(yields, unix.ECONNABORTED)
	}
	f.member = h.crowd.enter(p, f, now)
	f.half = h.order.PushBack(f)
	h.arm(now)
	return yields
}

// leave is called when a flow is established or has ended.
func (h *handshakes) leave(f *joinedFlow) {
	if f.half != nil {
		h.order.Remove(f.half)
		h.crowd.leave(f.member)
		f.half = nil
	}
	delete(h.leaving, f)
}

func (h *handshakes) giveUp(f *joinedFlow, why unix.Errno) {
	h.leave(f)
	f.givenUp = why
	h.leaving[f] = struct{}{}
}

// late gives up all whose time is over, and returns everything that is given up and
// still there.
func (h *handshakes) late(now time.Time) (found []*joinedFlow) {
	for front := h.order.Front(); front != nil; front = h.order.Front() {
		f := front.Value.(*joinedFlow)
		if now.Sub(f.member.since) < h.after {
			break
		}
		h.giveUp(f, unix.ETIMEDOUT)
	}
	for f := range h.leaving {
		found = append(found, f)
	}
	h.due = time.Time{}
	h.arm(now)
	return found
}

// arm sets the timer for the next flow whose time is over, if there is one.
func (h *handshakes) arm(now time.Time) {
	if h.closed || h.order.Len()+len(h.leaving) == 0 {
		return
	}
	wait := h.after / looks
	if len(h.leaving) == 0 {
		front := h.order.Front().Value.(*joinedFlow)
		wait = max(wait, front.member.since.Add(h.after).Sub(now))
	}
	if due := now.Add(wait); h.due.IsZero() || due.Before(h.due) {
		h.due = due
		h.timer.Reset(wait)
	}
}

func (h *handshakes) close() {
	h.closed = true
	h.timer.Stop()
}

// lookAtHalfOpen is called by the timer.
func (e *Engine) lookAtHalfOpen() {
	e.mu.Lock()
	found := e.half.late(time.Now())
	e.mu.Unlock()
	for _, f := range found {
		e.breakOff(f)
	}
}

// breakOff ends the handshake of a flow that was given up: accept then finds an
// error. The app gets no answer; should it be there after all, its next segment is
// answered with a reset, and a new SYN is a new flow.
func (e *Engine) breakOff(f *joinedFlow) {
	protocol := header.IPv4ProtocolNumber
	if f.tuple.six {
		protocol = header.IPv6ProtocolNumber
	}
	// Under the lock, or the endpoint could be that of the tuple's next flow.
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, there := e.half.leaving[f]; !there {
		return
	}
	if endpoint := e.stack.FindTransportEndpoint(protocol, header.TCPProtocolNumber, f.id, nic); endpoint != nil {
		endpoint.Abort()
	}
}
