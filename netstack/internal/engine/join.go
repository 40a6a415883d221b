package engine

import (
	"container/list"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/lent"
	"nanotun/netstack/internal/plainhttp"
)

// joinedFlow is a flow from its join to its end.
type joinedFlow struct {
	*carry.Flow
	tuple tuple
	here  bool // of this machine

	asked time.Duration // see waiting; under Engine.mu, as note
	note  uint64        // Python's

	handshake *handshake // nil once it is established; under Engine.mu

	// See handshakes.
	half    *list.Element
	member  *member
	givenUp unix.Errno // why, or 0

	held *heldFlow // accepted, and not yet joined; under Engine.mu

	dialled  *flowDial // by which it is joined, or nil
	standing *standing // which has dialled it: Python does not know the flow
}

func (e *Engine) newFlow(flow uint64, fd int, leftover []byte) *joinedFlow {
	f := &joinedFlow{}
	loop := e.loops[flow%uint64(len(e.loops))]
	f.Flow = carry.NewFlow(flow, fd, leftover, loop, func(_ *carry.Flow, errno unix.Errno) { e.ended(f, errno) })
	return f
}

// reserve is the part of all joined flows that is kept for this machine.
const reserve = 8

// full tells whether no more flows can be joined, of this machine or of others. Established
// flows never make way. mu is held.
func (e *Engine) full(here bool) bool {
	limit := e.config.FlowLimit
	return len(e.joined)+len(e.opening) >= limit || !here && e.others >= limit-limit/reserve
}

// Join completes the handshake with the app and carries the flow over fd, or what that was
// lent for, which it owns from here on. EMFILE: there are too many flows; the app hears nothing
// and tries again. note is listed with the flow, and told with its end; 0: that of its dial.
func (e *Engine) Join(flow uint64, fd int, leftover []byte, note uint64) error {
	return e.join(flow, fd, leftover, note, nil)
}

// JoinHTTP is Join for an fd that leads to an HTTP proxy, which takes requests in
// absolute-form; plainhttp.New has the meaning of the last two arguments.
func (e *Engine) JoinHTTP(flow uint64, fd int, leftover []byte, note uint64, authority, authorization string) error {
	return e.join(flow, fd, leftover, note, func(t *tuple) *plainhttp.Rewriter {
		return plainhttp.New(authority, authorization, t.destinationAddress())
	})
}

func (e *Engine) join(flow uint64, fd int, leftover []byte, note uint64, translate func(*tuple) *plainhttp.Rewriter) error {
	leg := lent.Reclaim(fd)
	setKeepAlive(leg.FD, e.config.KeepAlive)
	f := e.newFlow(flow, leg.FD, append(leftover, leg.Leftover...))
	if leg.Wire != nil {
		f.Wire = leg.Wire
	}
	f.note = note
	return e.joinFlow(f, translate)
}

func (e *Engine) joinFlow(f *joinedFlow, translate func(*tuple) *plainhttp.Rewriter) error {
	e.mu.Lock()
	w := e.takeFor(f)
	isHeld := w != nil && w.held != nil
	full := e.quiesced || w != nil && !isHeld && e.full(w.party.class.isHere())
	var h, yields *handshake
	if w != nil && translate != nil {
		f.HTTP = translate(&w.tuple)
	}
	if w != nil && !full {
		now := time.Now()
		if f.note == 0 {
			f.note = w.note
		}
		if isHeld {
			e.joinHeld(w.held, f)
		} else {
			h, yields = e.open(f, w, now)
		}
		e.pending.answered(w.party.class, now)
		e.tellJoined(f, &w.tuple)
	}
	e.mu.Unlock()
	e.wake()
	if yields != nil {
		e.look(yields)
	}
	switch {
	case w == nil:
		f.Discard()
		return unix.ENOENT
	case full:
		w.release()
		e.dropFlowLimit.Add(1)
		f.Discard()
		return unix.EMFILE
	case !isHeld:
		f.OnLoop(func() { h.open(w.id, w.packet) })
	}
	return nil
}

// open has a flow that waits no longer, or is held, enter its handshake, and returns that
// and the one that makes way, if one does. mu is held.
func (e *Engine) open(f *joinedFlow, w *waiting, now time.Time) (h, yields *handshake) {
	if f.here = w.party.class.isHere(); !f.here {
		e.others++
	}
	f.tuple, f.asked = w.tuple, w.asked
	f.handshake = &handshake{engine: e, flow: f}
	e.opening[w.tuple] = f
	return f.handshake, e.half.enter(f, w.party, now)
}

// joinHeld gives a held flow what another one of the same number was made with. mu is held.
func (e *Engine) joinHeld(h *heldFlow, with *joinedFlow) {
	f := h.flow
	f.held, f.note = nil, with.note
	f.Adopt(with.Flow)
	if e.joined[f.tuple] != f {
		return // look starts it
	}
	e.held--
	e.flowsTotal.Add(1)
	f.OnLoop(h.start)
}

// ended is called once for each flow that carried, by the thread that ends it.
func (e *Engine) ended(f *joinedFlow, errno unix.Errno) {
	event, known := e.forget(f, errno)
	if why := f.Refused(); why != 0 {
		event := f.tuple.event(events.NotHTTP, f.ID)
		event.Error = int32(why)
		e.events.PostLazy(event)
	}
	if known {
		e.events.PostLazy(event)
	}
}

// fell is ended for a flow that never carried, whose socket is still to be closed.
func (e *Engine) fell(f *joinedFlow, errno unix.Errno) {
	event, known := e.forget(f, errno)
	f.Discard()
	switch {
	case !known:
	case event.Kind == events.Abandoned:
		e.events.Post(event)
		e.wake()
	default:
		e.events.PostLazy(event)
	}
}

// forget takes a flow that has ended out of all tables. It returns the event that Python
// is to have, if it knows the flow or wants to hear of all.
func (e *Engine) forget(f *joinedFlow, errno unix.Errno) (event events.Event, known bool) {
	up, down := f.Bytes()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.half.leave(f)
	if !f.here {
		e.others--
	}
	if f.givenUp != 0 {
		errno = f.givenUp
		e.dropHalfOpen.Add(1)
	}
	e.bytesUp.Add(up)
	e.bytesDown.Add(down)
	if e.joined[f.tuple] == f {
		delete(e.joined, f.tuple)
		if errno == 0 {
			e.linger.enter(f, time.Now())
		}
		if f.held != nil {
			e.held--
		}
	}
	if e.opening[f.tuple] == f {
		delete(e.opening, f.tuple)
	}
	if f.held != nil {
		return f.tuple.event(events.Abandoned, f.ID), e.pending.take(f.ID) != nil
	}
	event = f.tuple.event(events.Closed, f.ID)
	event.Error = int32(errno)
	event.BytesUp, event.BytesDown = up, down
	event.Note, event.Microseconds = f.note, microseconds(carry.Clock()-f.asked)
	if f.standing != nil {
		f.standing.ended()
		event.Standing = true
	}
	return event, !event.Standing || e.follows.Load()
}
