// Package direct lets the thread that read a packet also do its TCP work.
//
// gVisor queues every TCP segment to a processor goroutine. In a library that
// is called from a thread of another runtime that means a hand-over to another
// thread for each packet, and on few cores the wake-up costs more than the
// work: request-response ran at half the rate. The lower half of TCP is not
// exported, so this package links to it by name. It is the only place that
// does; gVisor's version is pinned in go.mod, and the package's test fails when
// the names or their meaning change.
package direct

import (
	_ "unsafe" // for go:linkname

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

//go:linkname handleSegments gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).handleSegmentsLocked
func handleSegments(ep *tcp.Endpoint) tcpip.Error

//go:linkname resetConnection gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).resetConnectionLocked
func resetConnection(ep *tcp.Endpoint, err tcpip.Error)

//go:linkname drainClosingSegments gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).drainClosingSegmentQueue
func drainClosingSegments(ep *tcp.Endpoint)

//go:linkname startTimeWait gvisor.dev/gvisor/pkg/tcpip/transport/tcp.startTimeWait
func startTimeWait(ep *tcp.Endpoint)

//go:linkname completeState gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).completeStateLocked
func completeState(ep *tcp.Endpoint, state *tcp.TCPEndpointState)

const everything = waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents

// Begin claims the endpoint for a packet that the caller gives to the stack
// next; Finish must follow, in the same goroutine.
//
// While the endpoint is "owned by the user" the dispatcher queues the segment
// and wakes nobody.
func Begin(ep *tcp.Endpoint) { ep.LockUser() }

// Finish handles what the stack queued for the endpoint since Begin, as the
// processor goroutine would, and lets go of it. queue is the one that the
// endpoint was made with.
func Finish(ep *tcp.Endpoint, queue *waiter.Queue) {
	if ep.EndpointState() == tcp.StateSynRecv && !finishOpening(ep, queue) {
		return
	}
	if !handles(ep.EndpointState()) {
		ep.UnlockUser() // wakes the processor for what was queued
		return
	}
	if err := handleSegments(ep); err != nil {
		resetConnection(ep, err)
	}
	switch ep.EndpointState() {
	case tcp.StateError, tcp.StateClose:
		ep.UnlockUser()
		drainClosingSegments(ep)
		queue.Notify(everything)
		return
	case tcp.StateTimeWait:
		startTimeWait(ep)
	}
	ep.UnlockUser()
}

// handles tells whether the state is one that handleSegments may be called in.
func handles(state tcp.EndpointState) bool {
	switch state {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2,
		tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing:
		return true
	}
	return false
}

// Unacknowledged is how many bytes the endpoint still has to send or to see
// acknowledged; a FIN that was sent counts. It is 0 if it can send nothing any more.
func Unacknowledged(ep *tcp.Endpoint) int {
	ep.LockUser()
	defer ep.UnlockUser()
	if !handles(ep.EndpointState()) {
		return 0
	}
	var state tcp.TCPEndpointState
	completeState(ep, &state)
	return max(state.SndBufState.SndBufUsed, int(state.Sender.SndUna.Size(state.Sender.SndNxt)))
}
