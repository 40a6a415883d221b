package engine

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/link"
)

// lingering has the flows that have ended in order while their endpoints still close: the
// app's last ACK, or its FIN, is to come. With it the thread that reads such a packet
// handles it, and wakes no processor of the stack. Those that are not in it close all the
// same.
//
// Rules
//   - A flow enters with its end. It leaves when its endpoint is closed or in TIME-WAIT, in
//     which nothing more is expected, or after lingerFor.
//   - All of it is under Engine.mu.
type lingering struct {
	limit  int
	flows  map[tuple]lingerer
	timer  *time.Timer
	armed  bool
	closed bool
}

type lingerer struct {
	flow  *joinedFlow
	since time.Time
}

const (
	// lingerLimit bounds the table. An app answers within a round trip of the device, so
	// only as many are in it for long as there are apps that died.
	lingerLimit = 4096

	// lingerFor is longer than any app takes for its answer to a FIN if it is alive.
	lingerFor = finWait

	// lingerLook is how often the table is swept while there is something in it.
	lingerLook = 5 * time.Second
)

func newLingering(look func()) *lingering {
	l := &lingering{limit: lingerLimit, flows: make(map[tuple]lingerer), timer: time.AfterFunc(time.Hour, look)}
	l.timer.Stop()
	return l
}

// closes tells whether packets of the app are still expected, of one whose flow has ended.
func closes(endpoint *tcp.Endpoint) bool {
	switch endpoint.EndpointState() {
	case tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateClosing, tcp.StateLastAck:
		return true
	}
	return false
}

// enter takes in a flow that has ended, if anything more is expected of it.
func (l *lingering) enter(f *joinedFlow, now time.Time) {
	if l.closed || len(l.flows) >= l.limit || f.Endpoint == nil || !closes(f.Endpoint) {
		return
	}
	l.flows[f.tuple] = lingerer{f, now}
	l.arm()
}

// find returns the flow that lingers at a tuple, or nil.
func (l *lingering) find(t *tuple) *joinedFlow {
	if len(l.flows) == 0 {
		return nil
	}
	return l.flows[*t].flow
}

// leave takes out a flow, if it has closed.
func (l *lingering) leave(f *joinedFlow) {
	if !closes(f.Endpoint) && l.flows[f.tuple].flow == f {
		delete(l.flows, f.tuple)
	}
}

// sweep takes out those that have closed without a packet, and those that take too long.
func (l *lingering) sweep(now time.Time) {
	for t, one := range l.flows {
		if !closes(one.flow.Endpoint) || now.Sub(one.since) >= lingerFor {
			delete(l.flows, t)
		}
	}
	l.armed = false
	l.arm()
}

func (l *lingering) arm() {
	if !l.closed && !l.armed && len(l.flows) > 0 {
		l.armed = true
		l.timer.Reset(lingerLook)
	}
}

func (l *lingering) close() {
	l.closed = true
	l.timer.Stop()
	clear(l.flows)
}

// sweepLingering is called by the timer.
func (e *Engine) sweepLingering() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.linger.sweep(time.Now())
}

// last gives the stack a packet of an app whose flow has ended.
func (e *Engine) last(f *joinedFlow, p link.Packet) {
	direct.Begin(f.Endpoint)
	e.link.Deliver(p)
	direct.Finish(f.Endpoint, &f.Queue)
	e.lingered(f)
}

// lingered is called after a packet of a flow that has ended.
func (e *Engine) lingered(f *joinedFlow) {
	if !closes(f.Endpoint) {
		e.mu.Lock()
		e.linger.leave(f)
		e.mu.Unlock()
	}
}
