package engine

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/listing"
)

// Flows returns the flows with the lowest ids above after, limit of them at most: those that
// wait, and those that are open.
func (e *Engine) Flows(after uint64, limit int) []listing.Flow {
	return e.pages.Page(after, limit, func() []listing.Flow { return e.list(after) })
}

// list lists all flows whose ids are above after.
func (e *Engine) list(after uint64) []listing.Flow {
	l := listing.New(after)
	now := carry.Clock()
	// In the order in which a flow goes through them.
	p := e.pending
	listing.Walk(l, &p.mu, p.byFlow, func(w *waiting) uint64 { return w.flow },
		func(w *waiting, into *listing.Flow) bool { w.describe(into, now); return true })
	for _, table := range []map[tuple]*joinedFlow{e.opening, e.joined} {
		listing.Walk(l, &e.mu, table, func(f *joinedFlow) uint64 { return f.ID },
			func(f *joinedFlow, into *listing.Flow) bool { return f.describe(into, now) })
	}
	e.datagrams.List(l)
	return l.Sorted()
}

// describe fills in a flow that waits. pendingTable.mu is held.
func (w *waiting) describe(into *listing.Flow, now time.Duration) {
	state := listing.Waiting
	if w.dial != nil && w.dial.end == nil {
		state = listing.Dialling
	}
	w.tuple.describe(into, w.flow, w.note, state)
	into.Age = microseconds(now - w.asked)
	into.Idle = into.Age
}

// describe fills in a flow that is joined, and tells whether it is. Engine.mu is held.
func (f *joinedFlow) describe(into *listing.Flow, now time.Duration) bool {
	if f.held != nil {
		return false // it still waits
	}
	state := listing.Open
	if f.HalfClosed() {
		state = listing.HalfClosed
	}
	f.tuple.describe(into, f.ID, f.note, state)
	into.BytesUp, into.BytesDown = f.Bytes()
	into.Age = microseconds(now - f.asked)
	into.Idle = microseconds(now - max(f.asked, f.Active()))
	return true
}

func (t *tuple) describe(into *listing.Flow, flow, note uint64, state listing.State) {
	*into = listing.Flow{
		ID: flow, Note: note, State: state,
		Family: t.family(), Protocol: uint8(header.TCPProtocolNumber),
		Source: t.source, Destination: t.destination,
		SourcePort: t.sourcePort, DestPort: t.destinationPort,
	}
}

// microseconds is 0 for a time that begins after it has ended: a flow is looked at a little
// later than the clock.
func microseconds(d time.Duration) uint64 { return uint64(max(0, d.Microseconds())) }

// Follow has the ends of all flows told, or not: also of those of datagrams, and of those of
// standing decisions, which Python does not know.
func (e *Engine) Follow(on bool) {
	e.follows.Store(on)
	e.datagrams.Follow(on)
}
