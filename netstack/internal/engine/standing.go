package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// Stood is struct ns_stood in Go's terms, field by field.
type Stood struct {
	Number          uint64
	Decided, Joined uint64
	Microseconds    uint64
	Address, Over   uint32
}

// standing is a decision for every flow to one destination.
type standing struct {
	number uint64
}

// joined counts a flow that its dial has joined. Engine.mu is held.
func (s *standing) joined(took time.Duration, address int) {}

// ended is called for each of its flows, once: when it ends or is given up, joined or not.
// Engine.mu or pendingTable.mu is held.
func (s *standing) ended() {}

// Stand lets all flows to a destination be dialled without a question, and returns the
// number of this decision.
func (e *Engine) Stand(destination [16]byte, port uint16, six, ours bool, course uint32, request []byte, lasts time.Duration) (number uint64, err error) {
	return 0, unix.ENOSYS
}

// Withdraw ends all standing decisions.
func (e *Engine) Withdraw() {}

// Stood moves what was counted to the array, and returns how much of it was filled.
func (e *Engine) Stood(into []Stood) int { return 0 }
