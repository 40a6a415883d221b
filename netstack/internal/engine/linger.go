package engine

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/link"
	"nanotun/netstack/internal/smalltcp"
)

// lingering has the flows that have ended in order while their app's side still closes: the
// app's last ACK, or its FIN, is to come. With it the thread that reads such a packet
// handles it, and wakes no processor of the stack. Endpoints that are not in it close all
// the same; a connection of Simple's that it has no room for is reset.
//
// Rules
//   - A flow enters with its end. It leaves when its app's side is closed or in TIME-WAIT,
//     in which nothing more is expected, or when lingerFor has passed. One of Simple's stays
//     for longer while the app takes what is left for it.
//   - In TIME-WAIT gVisor's endpoints are the stack's. Those of Simple go to waits, which
//     has the last ones only.
//   - All of it is under Engine.mu.
type lingering struct {
	limit  int
	flows  map[tuple]lingerer
	timer  *time.Timer
	armed  bool
	closed bool

	waits map[tuple]*joinedFlow
	order [timeWaits]*joinedFlow // a ring of those in waits
	next  int
}

type lingerer struct {
	flow  *joinedFlow
	since time.Time
}

const (
	// lingerLimit bounds the table. An app answers within a round trip of the device, so
	// only as many are in it for long as there are apps that died.
	lingerLimit = 4096

	// timeWaits is how many flows of Simple's are in TIME-WAIT at most. The link is memory:
	// a FIN is repeated only if the acknowledgement was dropped a moment ago.
	timeWaits = 256

	// lingerFor is longer than any app takes for its answer to a FIN if it is alive.
	lingerFor = finWait

	// lingerLook is how often the table is swept while there is something in it.
	lingerLook = 5 * time.Second
)

func newLingering(look func()) *lingering {
	l := &lingering{
		limit: lingerLimit, flows: make(map[tuple]lingerer), waits: make(map[tuple]*joinedFlow),
		timer: time.AfterFunc(time.Hour, look),
	}
	l.timer.Stop()
	return l
}

// closes tells whether packets of the app are still expected, of one whose flow has ended.
func closes(app carry.App) bool {
	switch app.EndpointState() {
	case tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateClosing, tcp.StateLastAck:
		return true
	}
	return false
}

// moved tells whether an app has taken anything since the last call.
func moved(app carry.App) bool {
	conn, ok := app.(*smalltcp.Conn)
	return ok && conn.Moved()
}

// enter takes in a flow that has ended, if anything more is expected of it.
func (l *lingering) enter(f *joinedFlow, now time.Time) {
	switch {
	case l.closed || f.Endpoint == nil:
	case !closes(f.Endpoint):
		l.wait(f)
	case len(l.flows) >= l.limit:
		l.giveUp(f)
	default:
		_ = moved(f.Endpoint) // what it took before does not count
		l.flows[f.tuple] = lingerer{f, now}
		l.arm()
	}
}

// giveUp resets one of Simple's, which nothing finds any more. mu is held, so this is done
// elsewhere.
func (l *lingering) giveUp(f *joinedFlow) {
	if conn, ok := f.Endpoint.(*smalltcp.Conn); ok {
		f.OnLoop(conn.Abort)
	}
}

// wait takes in one in TIME-WAIT, if it is Simple's.
func (l *lingering) wait(f *joinedFlow) {
	if _, ok := f.Endpoint.(*smalltcp.Conn); !ok || f.Endpoint.EndpointState() != tcp.StateTimeWait {
		return
	}
	if old := l.order[l.next]; old != nil {
		l.waited(old)
	}
	l.waits[f.tuple] = f
	l.order[l.next] = f
	l.next = (l.next + 1) % timeWaits
}

// waited ends a flow's TIME-WAIT.
func (l *lingering) waited(f *joinedFlow) {
	if l.waits[f.tuple] == f {
		delete(l.waits, f.tuple)
	}
}

// find returns the flow that lingers at a tuple, or nil.
func (l *lingering) find(t *tuple) *joinedFlow {
	if len(l.flows) > 0 {
		if f := l.flows[*t].flow; f != nil {
			return f
		}
	}
	if len(l.waits) > 0 {
		return l.waits[*t]
	}
	return nil
}

// leave takes out a flow, if it has closed.
func (l *lingering) leave(f *joinedFlow) {
	if !closes(f.Endpoint) && l.flows[f.tuple].flow == f {
		delete(l.flows, f.tuple)
		l.wait(f)
	}
}

// sweep takes out those that have closed without a packet, and those that take too long.
func (l *lingering) sweep(now time.Time) {
	for t, one := range l.flows {
		switch {
		case !closes(one.flow.Endpoint):
			delete(l.flows, t)
		case now.Sub(one.since) < lingerFor:
		case moved(one.flow.Endpoint):
			l.flows[t] = lingerer{one.flow, now}
		default:
			delete(l.flows, t)
			l.giveUp(one.flow)
		}
	}
	clear(l.waits)
	clear(l.order[:])
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
	clear(l.waits)
	clear(l.order[:])
}

// sweepLingering is called by the timer.
func (e *Engine) sweepLingering() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.linger.sweep(time.Now())
}

// last has the app's side of a flow that has ended handle a packet.
func (e *Engine) last(f *joinedFlow, by func(carry.App)) {
	by(f.Endpoint)
	f.Endpoint.Keep()
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

// begins tells whether a packet of an app whose flow is in TIME-WAIT begins a new one
// (RFC 9293, 3.6.1), which ends the old one's.
func (e *Engine) begins(f *joinedFlow, p link.Packet) bool {
	if _, ok := f.Endpoint.(*smalltcp.Conn); !ok || f.Endpoint.EndpointState() != tcp.StateTimeWait || !isSYN(&f.tuple, p.Bytes()) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.linger.waited(f)
	return true
}
