package engine

import (
	"container/list"
	"time"

	"golang.org/x/sys/unix"
)

// handshakes has the joined flows whose app has not completed the handshake. Each
// holds an endpoint, an fd and a connection of the proxy, so they have a limit and a
// time. gVisor would repeat its SYN-ACK for 127 s and reads no option about that.
//
// Rules
//   - A flow enters with its join and leaves when it is established, given up or ends.
//   - Whoever gives one up calls Engine.look without Engine.mu, which ends it.
//   - All of it is under Engine.mu.
type handshakes struct {
	notices *notices
	after   time.Duration // how long one may wait
	crowd   *crowd
	order   list.List // of *joinedFlow, the longest-waiting first
	timer   *time.Timer
	due     time.Time // when the timer goes off; zero: it does not
	closed  bool
}

// looks is into how many parts a flow's time is divided: one of them is how late its
// end may be.
const looks = 100

func newHandshakes(notices *notices, limit int, after time.Duration, look func()) *handshakes {
	h := &handshakes{notices: notices, after: after, crowd: newCrowd(limit)}
	h.timer = time.AfterFunc(time.Hour, look)
	h.timer.Stop()
	return h
}

// enter takes a flow in and returns the one that makes way for it, or nil. The
// caller looks at that once it has released Engine.mu.
func (h *handshakes) enter(f *joinedFlow, p party, now time.Time) (yields *handshake) {
	if m, rule := h.crowd.yields(p); m != nil {
		gone := m.what.(*joinedFlow)
		_, limit := h.crowd.crowding(m.line.party, rule)
		h.notices.note(crowdHalfOpen, &gone.tuple, m.line.party, limit, now)
		yields = h.giveUp(gone, unix.ECONNABORTED)
	}
	f.member = h.crowd.enter(p, f, now)
	f.half = h.order.PushBack(f)
	h.arm(now)
	return yields
}

// leave is called when a flow is established, given up or has ended.
func (h *handshakes) leave(f *joinedFlow) {
	if f.half != nil {
		h.order.Remove(f.half)
		h.crowd.leave(f.member)
		f.half = nil
	}
}

// giveUp notes why a flow whose handshake is not over ends.
func (h *handshakes) giveUp(f *joinedFlow, why unix.Errno) *handshake {
	h.leave(f)
	f.givenUp = why
	return f.handshake
}

// late gives up all whose time is over, and returns them.
func (h *handshakes) late(now time.Time) (found []*handshake) {
	for front := h.order.Front(); front != nil; front = h.order.Front() {
		f := front.Value.(*joinedFlow)
		if now.Sub(f.member.since) < h.after {
			break
		}
		found = append(found, h.giveUp(f, unix.ETIMEDOUT))
	}
	h.due = time.Time{}
	h.arm(now)
	return found
}

// arm sets the timer for the next flow whose time is over, if there is one.
func (h *handshakes) arm(now time.Time) {
	if h.closed || h.order.Len() == 0 {
		return
	}
	front := h.order.Front().Value.(*joinedFlow)
	wait := max(h.after/looks, front.member.since.Add(h.after).Sub(now))
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
	for _, h := range found {
		e.look(h)
	}
}
