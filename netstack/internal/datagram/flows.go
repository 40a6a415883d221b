package datagram

import (
	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/link"
	"nanotun/netstack/internal/listing"
)

// List lists the flows that wait, and those that are attached.
func (t *Table) List(l *listing.List) {
	now := t.Look()
	listing.Walk(l, &t.mu, t.flows, func(f *flow) uint64 { return f.id },
		func(f *flow, into *listing.Flow) bool { return f.describe(into, now) })
}

// isOpen tells whether a flow is attached to an association that goes on. Called with mu
// held.
func (f *flow) isOpen() bool { return f.state == attached && !f.association.ended }

// describe fills in a flow, and tells whether it is listed. Called with mu held.
func (f *flow) describe(into *listing.Flow, now int64) bool {
	state := listing.Open
	if f.state == undecided {
		state = listing.Waiting
	} else if !f.isOpen() {
		return false
	}
	source, destination := &f.key.source, &f.key.destination
	*into = listing.Flow{
		ID: f.id, Note: f.note, State: state, Family: uint8(source.Family), Protocol: 17,
		BytesUp: f.up, BytesDown: f.down.Load(),
		Age: microseconds(now - f.asked), Idle: microseconds(now - f.latest()),
		Source: source.Host, SourcePort: source.Port,
		Destination: destination.Host, DestPort: destination.Port,
	}
	return true
}

// latest is when the last datagram came, in milliseconds. Called with mu held.
func (f *flow) latest() int64 { return max(f.active, f.heard.Load()) }

// microseconds of some milliseconds, which are 0 at least.
func microseconds(ms int64) uint64 { return uint64(max(0, ms)) * 1000 }

// Follow has the ends of attached flows told from now on, or not.
func (t *Table) Follow(on bool) {
	t.finishOrphans()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.follows = on
}

// End forgets flows that wait, of whose end Python hears, and those that are attached. It
// returns how many there were.
func (t *Table) End(ids map[uint64]struct{}) (count int) {
	if len(ids) == 0 {
		return 0
	}
	listing.Each(&t.mu, t.flows, func(f *flow) {
		if _, ok := ids[f.id]; !ok {
			return
		}
		switch {
		case f.state == undecided:
			t.remove(f)
			t.config.Events.PostLazy(f.event(events.Abandoned))
		case f.isOpen():
			t.finish(f, unix.ECONNABORTED)
		default:
			return
		}
		count++
	}, func() {})
	return count
}

// finish forgets a decided flow, and tells how it ended if anybody wants to know. Called with
// mu held.
func (t *Table) finish(f *flow, errno unix.Errno) {
	if t.follows && f.state == attached {
		event := f.event(events.Closed)
		event.Error = int32(errno)
		event.BytesUp, event.BytesDown = f.up, f.down.Load()
		event.Note, event.Microseconds = f.note, microseconds(f.latest()-f.asked)
		t.config.Events.PostLazy(event)
	}
	t.remove(f)
}

// finishOrphans forgets the flows whose associations have ended. While ends are told, they do
// not stay until they have been idle for long enough.
func (t *Table) finishOrphans() {
	t.mu.Lock()
	orphaned := t.orphaned
	t.orphaned = false
	t.mu.Unlock()
	if !orphaned {
		return
	}
	listing.Each(&t.mu, t.flows, func(f *flow) {
		if f.state == attached && f.association.ended {
			t.finish(f, f.association.why)
		}
	}, func() {})
}

// heard counts bytes that go to the app for a flow, in the goroutine of the association's loop.
// Mostly they are for the same flow as those before.
func (r *receiver) heard(source, destination *link.End, bytes int) {
	a, t := r.association, r.table
	f := a.last
	if f == nil || f.gone.Load() || f.key.source != *destination || f.key.destination != *source {
		t.mu.Lock()
		f = t.flows[key{*destination, *source}]
		t.mu.Unlock()
		a.last = f
		if f == nil {
			return // an app hears whoever sends to it
		}
	}
	f.down.Add(uint64(bytes))
	f.heard.Store(t.now.Load())
}
