package smalltcp

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/link"
)

// Host is what the connections of one engine share.
type Host struct {
	// Retransmits counts the segments that were sent again.
	Retransmits atomic.Uint64

	link *link.Endpoint
	due  []*Conn // which have something to acknowledge

	holding *Conn // see Hold
	held    *Conn
	since   time.Time
}

// NewHost makes a host on a device.
func NewHost(device *link.Endpoint) *Host { return &Host{link: device} }

// Flush sends the acknowledgements that are due, once the packets at hand are handled: one
// is enough for all packets of a connection. That of the one that Hold named waits.
func (h *Host) Flush() {
	for i, c := range h.due {
		h.due[i] = nil
		c.mu.Lock()
		c.listed = false
		switch {
		case c.owed == 0 || c.over():
		case c == h.holding && h.held == nil:
			h.held, h.since = c, time.Now()
		default:
			c.acknowledge()
			if c == h.held {
				h.held = nil
			}
		}
		c.mu.Unlock()
	}
	h.due = h.due[:0]
	h.holding = nil
}

// Hold lets the acknowledgement of the packet at hand wait for the answer, which is likely to
// come within a moment and carries it, too.
func (h *Host) Hold(c *Conn) { h.holding = c }

// Holds tells whether an acknowledgement waits, or has waited.
func (h *Host) Holds() bool { return h.held != nil }

// FlushHeld sends the one that has waited for longer than that, and tells whether it did. It
// is called by the thread that has the device.
func (h *Host) FlushHeld(longer time.Duration, now time.Time) bool {
	c := h.held
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owed == 0 || c.over() {
		h.held = nil // the answer has come
		return false
	}
	if now.Sub(h.since) < longer {
		return false
	}
	h.held = nil
	c.acknowledge()
	return true
}

// mss is the largest payload of one packet of the device.
func (h *Host) mss(six bool) int {
	size := header.IPv4MinimumSize
	if six {
		size = header.IPv6MinimumSize
	}
	return int(h.link.MTU()) - size - header.TCPMinimumSize
}
