package engine

import (
	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/listing"
)

// End ends flows. Joined ones are reset on both sides, and those whose app has not completed
// the handshake are given up; Closed follows for each. Those that wait are refused with a
// reset; Abandoned follows for each that Python knows. Those of datagrams are forgotten. It
// returns how many there were.
func (e *Engine) End(ids []uint64) (count int) {
	wanted := make(map[uint64]struct{}, len(ids))
	for _, id := range ids {
		wanted[id] = struct{}{}
	}
	// In the order in which a flow goes through the tables.
	for _, id := range ids {
		if _, ok := wanted[id]; ok && e.endWaiting(id) {
			delete(wanted, id)
			count++
		}
	}
	if len(wanted) == 0 {
		return count
	}
	var joined []*joinedFlow
	var opening []*handshake
	chosen := func(f *joinedFlow) bool {
		_, ok := wanted[f.ID]
		return ok && f.held == nil
	}
	listing.Each(&e.mu, e.opening, func(f *joinedFlow) {
		if chosen(f) {
			if f.givenUp == 0 {
				e.half.giveUp(f, unix.ECONNABORTED)
			}
			opening = append(opening, f.handshake)
		}
	}, func() {})
	listing.Each(&e.mu, e.joined, func(f *joinedFlow) {
		if chosen(f) {
			joined = append(joined, f)
		}
	}, func() {})
	for _, f := range joined {
		f.Abort()
	}
	for _, h := range opening {
		e.look(h)
	}
	return count + len(joined) + len(opening) + e.datagrams.End(wanted)
}

// endWaiting refuses a flow that waits, and tells whether there is one.
func (e *Engine) endWaiting(flow uint64) bool {
	w, known := e.pending.end(flow)
	switch {
	case w == nil:
		return false
	case w.held != nil: // which ends it
		w.held.giveUp()
		return true
	}
	defer w.release()
	e.refused.Add(1)
	e.reject(w.packet, w.tuple.six, RefuseReset)
	if known {
		e.events.Post(w.tuple.event(events.Abandoned, flow))
	}
	e.wake()
	return true
}

// end is take for a flow that is given up, and tells whether Python knows it. One that is
// held is left to its heldFlow.
func (p *pendingTable) end(flow uint64) (w *waiting, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w = p.byFlow[flow]
	if w == nil || w.held != nil {
		return w, false
	}
	known = w.known(p)
	p.unlinkLocked(w)
	return w, known
}
