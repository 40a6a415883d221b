package engine

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"nanotun/netstack/internal/events"
)

// waiting is a SYN whose flow waits for a decision. The packet is kept, not an
// endpoint: until the upstream is connected the app hears nothing, and any
// answer can be given to it.
type waiting struct {
	flow   uint64
	tuple  tuple
	id     stack.TransportEndpointID
	packet *stack.PacketBuffer
	isn    uint32
}

// pendingTable holds the flows that wait.
//
// Rules
//   - A repeated SYN of a waiting flow is no new flow. One with another
//     sequence number is: the app gave up and uses the port again.
//   - Each entry leaves by exactly one of take (a decision) and remove (the
//     app's RST, or a new SYN).
type pendingTable struct {
	limit, perSource int

	mu      sync.Mutex
	byFlow  map[uint64]*waiting
	byTuple map[tuple]*waiting
	sources map[[16]byte]int

	// What was turned away, by cause.
	overLimit, overSource atomic.Uint64
}

func newPendingTable(limit, perSource int) *pendingTable {
	return &pendingTable{
		limit: limit, perSource: perSource,
		byFlow:  make(map[uint64]*waiting),
		byTuple: make(map[tuple]*waiting),
		sources: make(map[[16]byte]int),
	}
}

// add makes an entry for a SYN. added is false when the SYN is a repetition or
// one too many; abandoned is the flow that this SYN ends, or 0.
func (p *pendingTable) add(flow uint64, t tuple, id stack.TransportEndpointID, packet *stack.PacketBuffer) (added bool, abandoned uint64) {
	isn := header.TCP(packet.TransportHeader().Slice()).SequenceNumber()
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.byTuple[t]; old != nil {
		if old.isn == isn {
			return false, 0
		}
		abandoned = old.flow
		p.removeLocked(old)
	}
	if len(p.byFlow) >= p.limit {
		p.overLimit.Add(1)
		return false, abandoned
	}
	if p.sources[t.source] >= p.perSource {
		p.overSource.Add(1)
		return false, abandoned
	}
	w := &waiting{flow: flow, tuple: t, id: id, packet: packet.IncRef(), isn: isn}
	p.byFlow[flow] = w
	p.byTuple[t] = w
	p.sources[t.source]++
	return true, abandoned
}

// take removes and returns the entry of a flow, nil if there is none. The
// packet is the caller's to release.
func (p *pendingTable) take(flow uint64) *waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byFlow[flow]
	if w != nil {
		p.unlinkLocked(w)
	}
	return w
}

// reset removes the entry that an app's RST ends and returns its flow, or 0.
func (p *pendingTable) reset(t tuple) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byTuple[t]
	if w == nil {
		return 0
	}
	p.removeLocked(w)
	return w.flow
}

// clear removes all entries.
func (p *pendingTable) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.byFlow {
		p.removeLocked(w)
	}
}

func (p *pendingTable) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byFlow)
}

func (p *pendingTable) removeLocked(w *waiting) {
	p.unlinkLocked(w)
	w.packet.DecRef()
}

func (p *pendingTable) unlinkLocked(w *waiting) {
	delete(p.byFlow, w.flow)
	delete(p.byTuple, w.tuple)
	if p.sources[w.tuple.source]--; p.sources[w.tuple.source] <= 0 {
		delete(p.sources, w.tuple.source)
	}
}

// event is one about this flow.
func (t *tuple) event(kind uint32, flow uint64) events.Event {
	return events.Event{
		Kind: kind, Flow: flow,
		Family: t.family(), Protocol: uint8(header.TCPProtocolNumber),
		Source: t.source, Destination: t.destination,
		SourcePort: t.sourcePort, DestPort: t.destinationPort,
	}
}
