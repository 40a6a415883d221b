package engine

import (
	"container/list"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/plainhttp"
)

// joinedFlow is a flow from its join to its end.
type joinedFlow struct {
	*carry.Flow
	tuple tuple
	id    stack.TransportEndpointID
	here  bool // of this machine

	// See handshakes.
	half    *list.Element
	member  *member
	givenUp unix.Errno // why, or 0
}

// reserve is the part of all joined flows that is kept for this machine.
const reserve = 8

// full tells whether no more flows can be joined, of this machine or of others. Established
// flows never make way. mu is held.
func (e *Engine) full(here bool) bool {
	limit := e.config.FlowLimit
	return len(e.joined)+len(e.opening) >= limit || !here && e.others >= limit-limit/reserve
}

// Join completes the handshake with the app and carries the flow over fd, which
// it owns from here on. EMFILE: there are too many flows; the app hears nothing
// and tries again.
func (e *Engine) Join(flow uint64, fd int, leftover []byte) error {
	return e.join(flow, fd, leftover, nil)
}

// JoinHTTP is Join for an fd that leads to an HTTP proxy, which takes requests in
// absolute-form; plainhttp.New has the meaning of the last two arguments.
func (e *Engine) JoinHTTP(flow uint64, fd int, leftover []byte, authority, authorization string) error {
	return e.join(flow, fd, leftover, func(t *tuple) *plainhttp.Rewriter {
		return plainhttp.New(authority, authorization, t.destinationAddress())
	})
}

func (e *Engine) join(flow uint64, fd int, leftover []byte, translate func(*tuple) *plainhttp.Rewriter) error {
	setKeepAlive(fd, e.config.KeepAlive)
	loop := e.loops[flow%uint64(len(e.loops))]
	f := &joinedFlow{}
	f.Flow = carry.NewFlow(flow, fd, leftover, loop, func(_ *carry.Flow, errno unix.Errno) { e.ended(f, errno) })
	e.mu.Lock()
	w := e.pending.take(flow)
	full := e.quiesced || w != nil && e.full(w.party.class.isHere())
	var yields *joinedFlow
	if w != nil && !full {
		if f.here = w.party.class.isHere(); !f.here {
			e.others++
		}
		f.tuple, f.id = w.tuple, w.id
		if translate != nil {
			f.HTTP = translate(&f.tuple)
		}
		e.opening[w.tuple] = f
		now := time.Now()
		yields = e.half.enter(f, w.party, now)
		e.pending.answered(w.party.class, now)
	}
	e.mu.Unlock()
	e.wake()
	if yields != nil {
		e.breakOff(yields)
	}
	if w == nil {
		f.Discard()
		return unix.ENOENT
	}
	if full {
		w.packet.DecRef()
		e.dropFlowLimit.Add(1)
		f.Discard()
		return unix.EMFILE
	}
	loop.Call(func() {
		// It starts a goroutine that calls accept, which blocks until the
		// app's ACK has come.
		if !e.forward.HandlePacket(w.id, w.packet) {
			f.Discard()
			e.ended(f, unix.ECONNABORTED)
		}
		w.packet.DecRef()
	})
	return nil
}

// accept does the handshake with the app of a joined flow.
func (e *Engine) accept(request *tcp.ForwarderRequest) {
	t := tupleOf(request.ID())
	e.mu.Lock()
	f, unwanted := e.opening[t], e.quiesced
	givenUp := f != nil && f.givenUp != 0
	e.mu.Unlock()
	if f == nil || unwanted || givenUp {
		// The app of one that was given up gets no answer, and asks again.
		request.Complete(!givenUp)
		if f != nil {
			f.Discard()
			e.ended(f, unix.ECONNABORTED)
		}
		return
	}
	endpoint, err := request.CreateEndpoint(&f.Queue)
	request.Complete(false)
	if err != nil {
		f.Discard()
		errno := unix.ECONNABORTED
		if _, timeout := err.(*tcpip.ErrTimeout); timeout {
			errno = unix.ETIMEDOUT
		}
		e.ended(f, errno)
		return
	}
	f.Endpoint = endpoint.(*tcp.Endpoint)
	e.setOptions(f.Endpoint)
	e.mu.Lock()
	givenUp = f.givenUp != 0
	if !givenUp {
		delete(e.opening, t)
		e.joined[t] = f
		e.half.leave(f)
	}
	e.mu.Unlock()
	if givenUp { // in the moment in which the app answered
		f.Endpoint.Abort()
		f.Discard()
		e.ended(f, unix.ECONNABORTED)
		return
	}
	e.flowsTotal.Add(1)
	e.parties.completed(&t, time.Now())
	f.Start()
}

// ended is called once for each joined flow, by the thread that ends it.
func (e *Engine) ended(f *joinedFlow, errno unix.Errno) {
	up, down := f.Bytes()
	e.mu.Lock()
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
	}
	if e.opening[f.tuple] == f {
		delete(e.opening, f.tuple)
	}
	e.mu.Unlock()
	if why := f.Refused(); why != 0 {
		event := f.tuple.event(events.NotHTTP, f.ID)
		event.Error = int32(why)
		e.events.PostLazy(event)
	}
	event := f.tuple.event(events.Closed, f.ID)
	event.Error = int32(errno)
	event.BytesUp, event.BytesDown = up, down
	e.events.PostLazy(event)
}
