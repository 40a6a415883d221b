package engine

import (
	"runtime/metrics"
)

// Stats is struct ns_stats in Go's terms, field by field.
type Stats struct {
	Flows, Pending, HalfOpen          uint64
	FlowsTotal, Refused               uint64
	BytesUp, BytesDown                uint64
	PacketsIn, PacketsOut             uint64
	DropPendingLimit, DropSourceLimit uint64
	DropFlowLimit, DropHalfOpen       uint64
	DropMalformed                     uint64
	DropGateway, DropWrite            uint64
	StackDropped, Retransmits         uint64
	ChecksumErrors                    uint64
	Goroutines, HeapBytes             uint64
	Associations, DatagramFlows       uint64
	AssociationsTotal                 uint64
	AssociationsEvicted               uint64
	DatagramsUp, DatagramsDown        uint64
	DropUndecided, DropSend           uint64
	DropReply, DropService            uint64
}

// Stats reads all counters.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	up, down := e.bytesUp.Load(), e.bytesDown.Load()
	flows, opening := len(e.joined)-e.held, len(e.opening)
	for _, f := range e.joined {
		u, d := f.Bytes()
		up += u
		down += d
	}
	e.mu.Unlock()
	d := e.datagrams
	up += d.BytesUp.Load()
	down += d.BytesDown.Load()
	datagramFlows, associations := d.Count()
	samples := []metrics.Sample{
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/heap/objects:bytes"},
	}
	metrics.Read(samples)
	s := e.stack.Stats()
	retransmits := s.TCP.Retransmits.Value()
	if e.small != nil {
		retransmits += e.small.Retransmits.Load()
	}
	return Stats{
		Flows:            uint64(flows),
		Pending:          uint64(e.pending.len()),
		HalfOpen:         uint64(opening),
		FlowsTotal:       e.flowsTotal.Load(),
		Refused:          e.refused.Load(),
		BytesUp:          up,
		BytesDown:        down,
		PacketsIn:        e.link.PacketsIn.Load(),
		PacketsOut:       e.link.PacketsOut.Load(),
		DropPendingLimit: e.pending.yielded.Load(),
		DropSourceLimit:  e.pending.yieldedToOwn.Load(),
		DropFlowLimit:    e.dropFlowLimit.Load(),
		DropHalfOpen:     e.dropHalfOpen.Load(),
		DropMalformed:    e.link.Malformed.Load(),
		DropGateway:      e.dropToGate.Load(),
		DropWrite:        e.link.WriteDrops.Load(),
		StackDropped:     s.DroppedPackets.Value(),
		Retransmits:      retransmits,
		ChecksumErrors:   s.TCP.ChecksumErrors.Value() + s.UDP.ChecksumErrors.Value() + e.link.BadChecksum.Load(),
		Goroutines:       samples[0].Value.Uint64(),
		HeapBytes:        samples[1].Value.Uint64(),

		Associations:        uint64(associations),
		DatagramFlows:       uint64(datagramFlows),
		AssociationsTotal:   d.Total.Load(),
		AssociationsEvicted: d.Evicted.Load(),
		DatagramsUp:         d.Up.Load(),
		DatagramsDown:       d.Down.Load(),
		DropUndecided:       d.DropUndecided.Load(),
		DropSend:            d.DropSend.Load(),
		DropReply:           d.DropReply.Load(),
		DropService:         d.Services.Dropped.Load(),
	}
}
