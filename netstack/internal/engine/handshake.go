package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/link"
)

// handshake is the TCP handshake with the app of a joined or held flow, and ends when the
// flow is established or falls.
//
// Rules
//   - No goroutine belongs to it. The flow's loop sends the SYN-ACK, the thread that reads a
//     packet of the app handles it, and timers of the stack repeat the SYN-ACK.
//   - Whatever may have brought it to its end is followed by Engine.look, in any goroutine.
//     The first one that finds the end acts on it.
//   - Locks, in this order: mu, an endpoint's, Engine.mu. A packet that is delivered with
//     the first two held may find no endpoint, and become a request under the third. So no
//     endpoint is locked under Engine.mu: its state is read without. The stack calls
//     NotifyEvent with locks of its own held, in any goroutine, so it takes none of these.
type handshake struct {
	engine *Engine
	flow   *joinedFlow
	entry  waiter.Entry
	over   bool // somebody acts on its end; under Engine.mu

	// mu is held while the SYN-ACK is sent and while a packet is handled, so that none comes
	// to an endpoint that somebody works at: a processor of the stack would spin until it
	// is free. Flow.Endpoint is written with this and Engine.mu held.
	mu sync.Mutex
	// working is set while mu is held by somebody who looks afterwards.
	working atomic.Bool
}

// open sends the SYN-ACK, in the goroutine of the flow's loop.
func (h *handshake) open(id stack.TransportEndpointID, packet *stack.PacketBuffer) {
	defer packet.DecRef()
	e, f := h.engine, h.flow
	e.mu.Lock()
	givenUp, unwanted := f.givenUp != 0, e.quiesced
	e.mu.Unlock()
	if givenUp || unwanted {
		// The app of one that was given up gets no answer, and asks again.
		if !givenUp {
			e.reject(packet, f.tuple.six, RefuseReset)
		}
		e.fell(f, unix.ECONNABORTED)
		return
	}
	h.entry.Init(h, waiter.WritableEvents|waiter.EventHUp|waiter.EventErr)
	f.Queue.EventRegister(&h.entry)
	h.mu.Lock()
	h.working.Store(true)
	endpoint, err := e.answer(id, packet, f)
	h.working.Store(false)
	if err == nil {
		e.mu.Lock()
		f.Endpoint = endpoint
		e.mu.Unlock()
	}
	h.mu.Unlock()
	if err != nil {
		e.fell(f, unix.ECONNABORTED)
		return
	}
	e.look(h)
}

// handle has the app's side handle a packet, in the thread that read it; nil says that
// there is none yet.
func (h *handshake) handle(by func(carry.App)) {
	h.mu.Lock()
	if app := h.flow.Endpoint; app != nil {
		h.working.Store(true)
		by(app)
		app.Keep()
		h.working.Store(false)
	} else {
		by(nil)
	}
	h.mu.Unlock()
	h.engine.look(h)
}

// handlePacket gives a packet that the app's side is not there for yet to the stack.
func (h *handshake) handlePacket(p link.Packet) {
	h.handle(func(app carry.App) {
		if app != nil {
			app.Handle(p)
			return
		}
		small := h.engine.small
		if small != nil {
			small.beginning = true
		}
		h.engine.link.Deliver(p)
		if small != nil {
			small.beginning = false
		}
	})
}

// NotifyEvent implements waiter.EventListener: a timer, or an error that came by ICMP, may
// have ended it.
func (h *handshake) NotifyEvent(waiter.EventMask) {
	if !h.working.Load() {
		h.flow.OnLoop(func() { h.engine.look(h) })
	}
}

// look finds out whether a handshake is over, or was given up, and acts on it.
func (e *Engine) look(h *handshake) {
	f := h.flow
	e.mu.Lock()
	if h.over || f.Endpoint == nil { // open is still to come, and sees what was given up
		e.mu.Unlock()
		return
	}
	connected := f.givenUp == 0 && established(f.Endpoint)
	if !connected && f.givenUp == 0 && !failed(f.Endpoint) {
		e.mu.Unlock()
		return
	}
	h.over = true
	held := f.held
	if connected {
		delete(e.opening, f.tuple)
		e.joined[f.tuple] = f
		e.half.leave(f)
		f.handshake = nil
		if held != nil {
			e.held++
		}
	}
	e.mu.Unlock()
	f.Queue.EventUnregister(&h.entry)
	if !connected {
		e.breakOff(f)
		return
	}
	stacked, ok := f.Endpoint.(*direct.App)
	if ok {
		e.setOptions(stacked.Endpoint)
	}
	if !ok || direct.Acknowledged(stacked.Endpoint) {
		e.parties.completed(&f.tuple, time.Now())
	}
	if held != nil {
		f.OnLoop(held.begin)
		return
	}
	e.flowsTotal.Add(1)
	f.Start()
}

// breakOff ends a flow whose handshake failed or was given up. The app gets no answer, but
// a reset if it has completed the handshake in the very moment. If it is there after all,
// its next segment is answered with a reset, and a new SYN is a new flow.
func (e *Engine) breakOff(f *joinedFlow) {
	errno := unix.ECONNABORTED
	if _, timeout := f.Endpoint.LastError().(*tcpip.ErrTimeout); timeout {
		errno = unix.ETIMEDOUT
	}
	f.Endpoint.Abort()
	f.Endpoint.Close()
	e.fell(f, errno)
}
