package engine

import (
	"maps"
	"slices"
	"time"
)

// quietTime without a byte means that a flow has nothing under way.
const quietTime = 100 * time.Millisecond

// Quiesce takes no new flows and resets those that have nothing under way. It
// returns how many are left.
func (e *Engine) Quiesce() int {
	e.mu.Lock()
	e.quiesced = true
	e.mu.Unlock()
	e.pending.stop()
	e.datagrams.Quiesce()
	flows, _ := e.left()
	for _, f := range flows {
		if f.Idle(quietTime) {
			e.abort(f)
		}
	}
	_, count := e.left()
	return count
}

// abort resets an established flow. It never blocks for a held one.
func (e *Engine) abort(f *joinedFlow) {
	e.mu.Lock()
	held := f.held
	e.mu.Unlock()
	if held != nil {
		held.giveUp()
		return
	}
	f.Abort()
}

// left returns the established flows, and how many there are with those in the
// handshake.
func (e *Engine) left() (joined []*joinedFlow, count int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.joined)), len(e.joined) + len(e.opening)
}

// closeWait bounds how long Close waits for flows that other goroutines have in
// hand, and closeLook is how often it looks.
const (
	closeWait = time.Second
	closeLook = 2 * time.Millisecond
)

// Close resets what is left and frees everything. Nothing is written to the
// device after it returned.
func (e *Engine) Close() {
	e.Quiesce()
	e.pages.Close()
	e.pending.clear()
	e.standing.close()
	e.mu.Lock()
	e.half.close()
	e.linger.close()
	e.mu.Unlock()
	for end := time.Now().Add(closeWait); time.Now().Before(end); time.Sleep(closeLook) {
		flows, count := e.left()
		if count == 0 {
			break
		}
		for _, f := range flows {
			e.abort(f)
		}
		// Handshakes under way, too: they end when their endpoint does.
		for _, endpoint := range e.stack.RegisteredEndpoints() {
			endpoint.Abort()
		}
		e.abortSmall()
	}
	e.closeSmall()
	e.datagrams.Close()
	e.stack.Close()
	e.link.Close()
	e.stack.RemoveNIC(nic)
	e.closeLoops()
	e.endAsking()
	e.pending.notices.close()
	e.events.Close()
}
