// Package engine is the packet engine: a gVisor stack on a TUN device, the
// table of flows that wait for a decision, and the flows that were joined.
package engine

import (
	"net/netip"
	"time"
)

// Mode chooses between the two kinds of TCP.
type Mode uint32

// The modes, as in netstack.h.
const (
	// Full is the whole of gVisor's netstack.
	Full Mode = 1
	// Simple serves the flows of this machine by smalltcp instead.
	Simple Mode = 2
)

// Config is struct ns_config in Go's terms.
type Config struct {
	TunFD         int
	MTU           uint32
	Mode          Mode
	VirtioHeader  bool
	PendingLimit  int
	FlowLimit     int
	HalfOpenLimit int
	HalfOpen      time.Duration
	KeepAlive     time.Duration
	HalfClosed    time.Duration
	Associations  int
	DatagramFlows int
	UDPTimeout    time.Duration
	Gateway4      netip.Addr
	Gateway6      netip.Addr
	Kernel4       netip.Addr
	Kernel6       netip.Addr
	Interface     uint32

	testPace *pace
}

func (c *Config) pace() pace {
	if c.testPace != nil {
		return *c.testPace
	}
	return newPace()
}

// Refusal is what the app is to see, as in netstack.h.
type Refusal uint32

// The refusals.
const (
	RefuseReset           Refusal = 1
	RefuseHostUnreachable Refusal = 2
	RefuseNetUnreachable  Refusal = 3
	RefuseProhibited      Refusal = 4
	RefusePortUnreachable Refusal = 5
)
