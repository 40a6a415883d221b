package link

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// hold keeps one acknowledgement back for a moment, because the answer that may follow
// carries it as well: a packet less to write, and to be received by the app's kernel.
type hold struct {
	wanted atomic.Bool // the acknowledgement of what is being delivered may be kept
	kept   atomic.Bool // there is one

	mu     sync.Mutex
	packet *stack.PacketBuffer
	since  time.Time
}

// DeliverHeld is Deliver for a packet that is answered soon: what is acknowledged meanwhile is
// kept until something else goes the same way, or FlushHeld is called. Another packet's
// acknowledgement, which another goroutine may send meanwhile, may be kept in its place.
func (e *Endpoint) DeliverHeld(deliver func()) {
	e.hold.wanted.Store(true)
	deliver()
	e.hold.wanted.Store(false)
}

// Holds tells whether an acknowledgement is kept.
func (e *Endpoint) Holds() bool { return e.hold.kept.Load() }

// FlushHeld sends what is kept for longer than that, and tells whether it did.
func (e *Endpoint) FlushHeld(longer time.Duration, now time.Time) bool {
	h := &e.hold
	h.mu.Lock()
	if h.packet == nil || now.Sub(h.since) < longer {
		h.mu.Unlock()
		return false
	}
	packet := h.takeLocked()
	h.mu.Unlock()
	e.writeOne(packet)
	return true
}

func (h *hold) takeLocked() *stack.PacketBuffer {
	packet := h.packet
	h.packet = nil
	h.kept.Store(false)
	return packet
}

// keeps is asked before each write. It keeps the packet, or lets go of the one that is kept if
// this one makes it superfluous or must not overtake it: then first is to be written before.
func (h *hold) keeps(packet *stack.PacketBuffer) (kept bool, first *stack.PacketBuffer) {
	if !h.wanted.Load() && !h.kept.Load() {
		return false, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	tcp := header.TCP(packet.TransportHeader().Slice())
	isTCP := packet.TransportProtocolNumber == header.TCPProtocolNumber && len(tcp) >= header.TCPMinimumSize
	if h.packet != nil && isTCP && sameWay(h.packet, packet) {
		first = h.takeLocked()
		if packet.Data().Size() > 0 || tcp.Flags().Contains(header.TCPFlagFin) {
			first.DecRef()
			return false, nil
		}
	}
	if h.packet == nil && first == nil && h.wanted.Load() && isTCP &&
		tcp.Flags() == header.TCPFlagAck && packet.Data().Size() == 0 {
		h.packet, h.since = packet.IncRef(), time.Now()
		h.kept.Store(true)
		return true, nil
	}
	return false, first
}

// sameWay tells whether two TCP packets have the same addresses and ports.
func sameWay(a, b *stack.PacketBuffer) bool {
	return bytes.Equal(a.TransportHeader().Slice()[:4], b.TransportHeader().Slice()[:4]) &&
		bytes.Equal(addresses(a), addresses(b))
}

func addresses(packet *stack.PacketBuffer) []byte {
	network := packet.NetworkHeader().Slice()
	if packet.NetworkProtocolNumber == header.IPv6ProtocolNumber {
		return network[8:40]
	}
	return network[12:20]
}
