// Package listing lists an engine's flows.
package listing

import (
	"cmp"
	"slices"
	"sync"
)

// State is how far a flow is, as in netstack.h.
type State uint32

// The states, in the order in which a flow gets there.
const (
	Waiting    State = 1
	Dialling   State = 2
	Open       State = 3
	HalfClosed State = 4
)

// Flow is struct ns_flow in Go's terms, field by field.
type Flow struct {
	ID, Note             uint64
	BytesUp, BytesDown   uint64
	Age, Idle            uint64 // microseconds
	State                State
	SourcePort, DestPort uint16
	Family, Protocol     uint8
	_                    [6]uint8
	Source, Destination  [16]byte
}

// List collects flows.
//
// Rules
//   - It holds no lock for long: see Walk. So a flow may move from one table to another
//     meanwhile. The tables are walked in the order in which it does, and it is found at
//     least once; of several finds the furthest state counts.
//   - A flow that is in one of the tables from the beginning of the walks to their end is in
//     the list.
type List struct {
	after uint64
	flows []Flow
}

// New makes a list of flows whose ids are greater than after.
func New(after uint64) *List { return &List{after: after} }

// Sorted returns the flows in ascending order of their ids. The list is of no more use.
func (l *List) Sorted() []Flow {
	type key struct {
		id    uint64
		state State
		at    int32
	}
	keys := make([]key, len(l.flows))
	for i := range l.flows {
		keys[i] = key{l.flows[i].ID, l.flows[i].State, int32(i)}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.id != b.id {
			return cmp.Compare(a.id, b.id)
		}
		return cmp.Compare(b.state, a.state)
	})
	keys = slices.CompactFunc(keys, func(a, b key) bool { return a.id == b.id })
	sorted := make([]Flow, len(keys))
	for i, k := range keys {
		sorted[i] = l.flows[k.at]
	}
	return sorted
}

// lot is how many flows of a table are looked at before others may have its lock: it is
// held for some 10 us.
const lot = 256

// Each calls visit for the flows of a table with mu held, which guards it, and between
// without. What is in the table all the while is visited once; it may change, also by visit.
func Each[Key comparable, Value any](mu *sync.Mutex, table map[Key]Value, visit func(Value), between func()) {
	mu.Lock()
	n := 0
	for _, v := range table {
		visit(v)
		if n++; n%lot == 0 {
			mu.Unlock()
			between()
			mu.Lock()
		}
	}
	mu.Unlock()
	between()
}

// Walk lists the flows of a table, which mu guards. look fills in a flow, or tells that it is
// not to be listed.
func Walk[Key comparable, Value any](l *List, mu *sync.Mutex, table map[Key]Value, id func(Value) uint64, look func(Value, *Flow) bool) {
	var found [lot]Flow
	n := 0
	Each(mu, table, func(v Value) {
		if id(v) > l.after && look(v, &found[n]) {
			n++
		}
	}, func() {
		l.flows = append(l.flows, found[:n]...)
		n = 0
	})
}
