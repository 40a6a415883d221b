package engine

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/sniff"
)

// sniffWait is how long an accepted app may take to say a name. Those whose servers speak
// first wait that long. Browsers speak within a round trip of the device, but git with
// GnuTLS reads the certificates of all authorities before its first byte: that takes it
// 0.2 s, and more than twice as long on a slow or busy machine.
var sniffWait = time.Second

// heldFlow is what a flow has more while its app is accepted and its decision still to be
// made. What the app sends stays in the endpoint, which is only peeked at.
//
// Rules
//   - The flow stays among the waiting ones, so that all undecided flows have one
//     limit; and it is among the joined ones, so that its packets find it.
//   - Whoever takes its waiting record ends it: Join, after which the flow is one like
//     all others, Refuse, Drop, or what makes it Abandoned.
//   - All but the name belongs to the goroutine of the flow's loop.
type heldFlow struct {
	engine *Engine
	flow   *joinedFlow
	entry  waiter.Entry
	timer  *time.Timer

	begun bool // entry is registered
	told  bool // of the name, or that there is none
	over  bool // joined or ended

	found atomic.Pointer[sniff.Finding]
}

// Sniff finds out what name a waiting flow's first bytes ask for. A TCP flow is accepted
// for that. ready: Name has it now; otherwise a Sniffed event follows, unless the flow is
// joined, refused, dropped or abandoned before. ENOENT: no such flow waits. EALREADY: it
// was asked for. EMFILE: as for Join, but the flow still waits.
func (e *Engine) Sniff(flow uint64) (ready bool, err error) {
	f := e.newFlow(flow, carry.NoSocket, nil)
	h := &heldFlow{engine: e, flow: f}
	f.held = h
	e.mu.Lock()
	w, packet, err := e.pending.hold(flow, h, func(p party) bool { return e.quiesced || e.full(p.class.isHere()) })
	if err != nil {
		e.mu.Unlock()
		if err == unix.ENOENT {
			return e.datagrams.Sniff(flow)
		}
		return false, err
	}
	opening, yields := e.open(f, w, time.Now())
	e.mu.Unlock()
	if yields != nil {
		e.look(yields)
	}
	f.OnLoop(func() { opening.open(w.id, packet) })
	return false, nil
}

// Name is what the first bytes of a sniffed flow, which still waits, say. ENOENT: no such
// flow.
func (e *Engine) Name(flow uint64) (sniff.Finding, error) {
	h, waits := e.pending.held(flow)
	switch {
	case !waits:
		return e.datagrams.Name(flow)
	case h == nil:
		return sniff.Finding{}, unix.ENOENT
	}
	if found := h.found.Load(); found != nil {
		return *found, nil
	}
	return sniff.Finding{}, nil
}

// begin is called when the app has completed the handshake.
func (h *heldFlow) begin() {
	if h.over {
		return
	}
	h.begun = true
	h.entry.Init(h, waiter.ReadableEvents|waiter.EventHUp|waiter.EventErr)
	h.flow.Queue.EventRegister(&h.entry)
	h.timer = time.AfterFunc(sniffWait, func() { h.flow.OnLoop(func() { h.look(true) }) })
	h.look(false)
}

// NotifyEvent implements waiter.EventListener. The stack calls it with locks held.
func (h *heldFlow) NotifyEvent(waiter.EventMask) { h.flow.OnLoop(func() { h.look(false) }) }

// look finds the name, if all of it has come; late: nothing more is waited for.
func (h *heldFlow) look(late bool) {
	if h.over {
		return
	}
	endpoint := h.flow.Endpoint
	var p peek
	if !h.told {
		_, _ = endpoint.Read(&p, tcpip.ReadOptions{Peek: true})
	}
	// After the read: it takes the error of an endpoint that has just failed, which would
	// look like an orderly end from then on.
	state := endpoint.EndpointState()
	if state == tcp.StateError || state == tcp.StateClose {
		h.end()
		return
	}
	if h.told {
		return
	}
	found, more := sniff.Stream(p.bytes)
	if more && !late && state != tcp.StateCloseWait { // the app has not ended
		return
	}
	h.told = true
	h.timer.Stop()
	h.found.Store(&found)
	h.engine.events.Post(h.flow.tuple.event(events.Sniffed, h.flow.ID))
}

// stop ends the state of being held; what follows belongs to somebody else.
func (h *heldFlow) stop() {
	h.over = true
	if h.begun {
		h.flow.Queue.EventUnregister(&h.entry)
		h.timer.Stop()
	}
}

// end resets the app's side.
func (h *heldFlow) end() {
	h.stop()
	h.flow.Endpoint.Abort()
	h.flow.Endpoint.Close()
	h.engine.fell(h.flow, unix.ECONNABORTED)
}

// giveUp ends the flow wherever it is on its way, unless it was joined. It never blocks.
func (h *heldFlow) giveUp() {
	h.flow.OnLoop(func() {
		if h.over {
			return
		}
		e, f := h.engine, h.flow
		e.mu.Lock()
		established, opening := e.joined[f.tuple] == f, f.handshake
		if f.half != nil {
			e.half.giveUp(f, unix.ECONNABORTED)
		}
		e.mu.Unlock()
		if established {
			h.end()
			return
		}
		e.look(opening)
	})
}

// start has the flow carry, once it was joined.
func (h *heldFlow) start() {
	if h.over { // ended meanwhile
		return
	}
	h.stop()
	h.flow.Start()
}

var errEnough = errors.New("no more is looked at")

// peek collects the first bytes of an endpoint.
type peek struct{ bytes []byte }

// Write implements io.Writer; less than all is taken only with an error, because gVisor
// takes anything else for a bug.
func (p *peek) Write(b []byte) (int, error) {
	n := min(len(b), sniff.Limit-len(p.bytes))
	p.bytes = append(p.bytes, b[:n]...)
	if n < len(b) {
		return n, errEnough
	}
	return n, nil
}
