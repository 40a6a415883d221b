// Package carry moves the bytes of joined flows: between the app's
// side, see App, and a socket, the upstream's side.
//
// Rules
//   - No goroutine belongs to a flow. A step moves what can be moved now and
//     returns; what makes more possible runs the next step: a packet from the
//     app (the pump's thread), readiness of the socket (a Loop), a timer of the
//     stack (any goroutine, which asks the Loop).
//   - One step of a flow runs at a time. A thread that wants another one meanwhile
//     leaves a mark, and the running thread takes another turn.
//   - The socket is closed by a step, so never while another thread uses it.
//   - An upstream that fails takes nothing back: what it sent before goes to the app,
//     as from a kernel that has received a reset, and the app's side is reset only when
//     the app has acknowledged all of it, or takes nothing for a while.
//   - "Up" is from the app to the upstream, "down" the other way.
package carry

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/plainhttp"
)

// Marks of a flow's state word.
const (
	markUp      = 1 << iota // something may have come from the app
	markDown                // something may have come from the upstream, or the app made room
	markRoom                // the socket may take more
	markError               // the socket may have failed
	markHup                 // the socket's other end is closed both ways
	markAll                 // a short read says nothing any more
	markAbort               // end it with a reset both ways
	markExpire              // the same, because it was idle for too long
	markRunning             // somebody runs steps
	markDead                // ended; nothing runs again
)

// Flow is one joined flow.
type Flow struct {
	// ID is the number that Python knows the flow by.
	ID uint64
	// Queue is the waiter queue that Endpoint was made with.
	Queue waiter.Queue
	// Endpoint is the app's side, set before Start.
	Endpoint App
	// HTTP translates what goes up, if it is not nil; set before Start.
	HTTP *plainhttp.Rewriter
	// Watched says that the loop's epoll knows the socket already, from WatchFor; set before
	// Start.
	Watched bool
	// Wire is what is spoken on the socket, nil for plain bytes; set before Start.
	Wire Wire

	loop  *Loop
	fd    int
	state atomic.Uint32
	entry waiter.Entry
	ended func(*Flow, unix.Errno)

	// pumping is set while the pump's thread works for this flow; notifications
	// of the stack are noted meanwhile, for that thread to act on afterwards.
	pumping atomic.Bool
	noted   atomic.Uint32

	bytesUp, bytesDown atomic.Uint64
	active             atomic.Int64 // when the last byte came, as clock tells it

	// quick is set while the upstream answers what the app sends within promptly.
	quick atomic.Bool

	// halfClosed is set once one direction has ended.
	halfClosed atomic.Bool

	// settling is set when the flow ends as soon as the app has acknowledged everything.
	settling atomic.Bool

	// The rest belongs to the running step.
	leftover    []byte        // goes to the app first
	upBlocked   bool          // the socket's buffer is full
	roomWatched bool          // the loop tells when it no longer is
	downBlocked bool          // the endpoint's buffer is full
	upDone      bool          // the app's FIN was passed on
	downDone    bool          // the upstream's FIN was passed on
	hungUp      bool          // nobody reads what goes up any more
	failed      bool          // the loop has told of an error, which nothing has read yet
	lost        unix.Errno    // why the upstream failed, or 0
	emptied     bool          // it failed, and nothing is left in its socket
	unsettled   int           // how many bytes the app has not acknowledged, once that matters
	bulk        bool          // the last read from the socket was a large one
	emptySocket bool          // the last read has emptied the socket
	readAll     bool          // a short read does not mean that the socket is empty
	askedAt     time.Duration // when the last bytes went up
	answered    bool          // with HTTP: the first answer was looked at
	refused     plainhttp.Reason
}

// NewFlow makes a flow that will carry between an endpoint, to be set, and fd,
// which it owns from now on. ended is called once, last, from any goroutine.
func NewFlow(id uint64, fd int, leftover []byte, loop *Loop, ended func(*Flow, unix.Errno)) *Flow {
	f := &Flow{ID: id, fd: fd, leftover: leftover, loop: loop, ended: ended}
	// Born running: a thread that finds it before Start is done leaves a mark.
	f.state.Store(markRunning)
	return f
}

// NoSocket is the fd of a flow that is given its socket later, by Adopt.
const NoSocket = -1

// Adopt gives a flow that was made with NoSocket, and was not started, what another such
// flow was made with. The other one is of no more use.
func (f *Flow) Adopt(other *Flow) {
	f.fd, f.leftover, f.HTTP = other.fd, other.leftover, other.HTTP
	f.Watched, f.Wire = other.Watched, other.Wire
}

// Loop is the one that the flow belongs to.
func (f *Flow) Loop() *Loop { return f.loop }

// OnLoop has f's loop run call soon, as Loop.Call does.
func (f *Flow) OnLoop(call func()) { f.loop.Call(call) }

// Discard closes the socket of a flow that is never started, with a reset: the
// app went away and the upstream should not take this for an orderly end.
func (f *Flow) Discard() {
	if f.fd == NoSocket {
		return
	}
	resetOnClose(f.fd)
	_ = unix.Close(f.fd)
}

// Start begins to carry. Endpoint is set and connected.
func (f *Flow) Start() {
	f.touch()
	f.entry.Init(f, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventHUp|waiter.EventErr)
	f.Queue.EventRegister(&f.entry)
	marks := uint32(markUp | markDown)
	if err := f.loop.watch(f); err != nil {
		marks = markAbort
	}
	f.state.Or(marks)
	f.turns()
}

// NotifyEvent implements waiter.EventListener. The stack calls it with locks
// held, so this only leaves a mark.
func (f *Flow) NotifyEvent(mask waiter.EventMask) {
	marks := uint32(0)
	if mask&waiter.WritableEvents != 0 {
		marks |= markDown
	}
	if mask&(waiter.ReadableEvents|waiter.EventHUp|waiter.EventErr) != 0 {
		marks |= markUp
	}
	f.noted.Or(marks)
	if !f.pumping.Load() {
		f.loop.ask(f, f.noted.Swap(0))
	}
}

// BeginPump and EndPump enclose the handling of one packet of this flow by Endpoint.
// EndPump moves what the packet made possible, in the caller's thread.
func (f *Flow) BeginPump() { f.pumping.Store(true) }

// EndPump follows BeginPump.
func (f *Flow) EndPump() {
	f.pumping.Store(false)
	marks := f.noted.Swap(0)
	if f.settling.Load() {
		marks |= markUp // the stack does not tell of acknowledgements
	}
	if marks != 0 {
		f.run(marks)
	}
	f.Endpoint.Keep()
}

// expire is Abort for a flow that was idle for too long.
func (f *Flow) expire() { f.run(markExpire) }

// Abort resets the flow on both sides.
func (f *Flow) Abort() { f.run(markAbort) }

// Ended tells whether the flow has ended.
func (f *Flow) Ended() bool { return f.state.Load()&markDead != 0 }

// Bytes returns the payload bytes carried so far.
func (f *Flow) Bytes() (up, down uint64) { return f.bytesUp.Load(), f.bytesDown.Load() }

// HalfClosed tells whether one direction has ended.
func (f *Flow) HalfClosed() bool { return f.halfClosed.Load() }

// Active is when the last byte came, or when the flow was started; 0 before that.
func (f *Flow) Active() time.Duration { return time.Duration(f.active.Load()) }

// Refused tells why the requests of a flow that has ended could not be sent on; 0
// if that is not why it ended.
func (f *Flow) Refused() plainhttp.Reason { return f.refused }

// Idle tells whether no byte moved for that long.
func (f *Flow) Idle(since time.Duration) bool {
	return clock()-time.Duration(f.active.Load()) > since
}

// promptly is how soon an answer comes that is worth waiting for with an acknowledgement.
const promptly = 500 * time.Microsecond

// Quick tells whether what the app sends is likely to be answered at once.
func (f *Flow) Quick() bool { return f.quick.Load() }

// NotQuick says that it was not.
func (f *Flow) NotQuick() { f.quick.Store(false) }

func (f *Flow) touch() { f.active.Store(int64(clock())) }

var began = time.Now()

// clock tells the time since the library was loaded, whatever becomes of the time of day.
func clock() time.Duration { return time.Since(began) }

// run leaves the marks and, unless another thread is at it, runs steps until no
// mark is left.
func (f *Flow) run(marks uint32) {
	for {
		old := f.state.Load()
		if old&markDead != 0 {
			return
		}
		if f.state.CompareAndSwap(old, old|marks|markRunning) {
			if old&markRunning != 0 {
				return
			}
			break
		}
	}
	f.turns()
}

// turns runs steps until no mark is left, for the thread that set markRunning.
func (f *Flow) turns() {
	for {
		marks := f.state.Swap(markRunning)
		if f.step(marks) {
			f.state.Store(markDead)
			return
		}
		if f.state.CompareAndSwap(markRunning, 0) {
			return
		}
	}
}

// step moves what can be moved; true means that the flow has ended.
func (f *Flow) step(marks uint32) (dead bool) {
	if marks&(markAbort|markExpire) != 0 {
		errno := unix.ECONNABORTED
		switch {
		case f.lost != 0:
			errno = f.lost
		case marks&markExpire != 0:
			errno = unix.ETIMEDOUT
		}
		f.end(errno)
		return true
	}
	if marks&markHup != 0 && !f.gone() {
		f.hungUp = true
		// The app may never take what is left, and neither end be passed on.
		f.loop.limit(f, f.loop.halfClosed)
	}
	if marks&markAll != 0 {
		f.readAll = true
	}
	if marks&markError != 0 {
		f.failed = true
	}
	if marks&markRoom != 0 && f.upBlocked {
		f.upBlocked = false
		marks |= markUp
	}
	if marks&markUp != 0 && !f.upDone && !f.upBlocked && !f.gone() {
		if errno := f.moveUp(); errno != 0 {
			f.end(errno)
			return true
		}
		if f.lost != 0 {
			marks |= markDown // for what waits in the socket
		}
	}
	if marks&markDown != 0 && !f.downDone && !f.emptied {
		if errno := f.moveDown(); errno != 0 {
			f.end(errno)
			return true
		}
	}
	if f.upDone && f.downDone {
		f.end(0)
		return true
	}
	if errno := f.failure(); errno != 0 {
		f.end(errno)
		return true
	}
	// In this order: a slow app is waited for while the socket still holds something.
	if f.gone() && f.settled() && (f.downDone || f.emptied) {
		f.end(f.lost)
		return true
	}
	return false
}

// gone tells whether the upstream takes nothing any more: it has failed, or it is a
// service of ours that has closed its end of a socket pair, which knows no reset.
func (f *Flow) gone() bool { return f.lost != 0 || f.hungUp }

// lose notes that the upstream has failed. What it sent before goes to the app first.
func (f *Flow) lose(errno unix.Errno) {
	f.lost = errno
	f.touch() // the app's time begins now
	f.loop.limit(f, min(lostFor, f.loop.halfClosed))
}

// settled tells whether the app has acknowledged everything, and has EndPump ask again
// if it has not.
func (f *Flow) settled() bool {
	// First, so that no acknowledgement comes unseen between the two.
	f.settling.Store(true)
	before := f.unsettled
	f.unsettled = f.Endpoint.Unacknowledged()
	if f.unsettled < before {
		f.touch()
	}
	return f.unsettled == 0
}

// failure finds a reset by a side that nothing is read from at the moment or any
// more, and which would not be noticed otherwise. It returns the app's.
func (f *Flow) failure() unix.Errno {
	if f.upDone || f.upBlocked || f.gone() {
		state := f.Endpoint.EndpointState()
		// It is also closed once both FINs are acknowledged, though bytes of the
		// app may still wait here.
		if state == tcp.StateError || state == tcp.StateClose && !f.downDone {
			return unix.ECONNRESET
		}
	}
	// The loop tells once. Until then, reading what is left finds the error, or fills the endpoint.
	if f.failed && f.lost == 0 && (f.downDone || f.downBlocked) {
		f.failed = false
		if errno, _ := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
			f.lose(unix.Errno(errno))
		}
	}
	return 0
}

// end closes both sides: in order when errno is 0, else with a reset.
func (f *Flow) end(errno unix.Errno) {
	f.Queue.EventUnregister(&f.entry)
	f.loop.forget(f)
	if errno != 0 {
		resetOnClose(f.fd)
		f.Endpoint.Abort()
	}
	_ = unix.Close(f.fd)
	f.Endpoint.Close()
	f.leftover = nil
	f.ended(f, errno)
}

// resetOnClose makes close(2) send a RST instead of a FIN. A socket that is no
// TCP socket cannot, and needs only the close.
func resetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// errnoOf names a gVisor error that ended a flow.
func errnoOf(err tcpip.Error) unix.Errno {
	switch err.(type) {
	case *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return unix.ECONNRESET
	case *tcpip.ErrTimeout:
		return unix.ETIMEDOUT
	}
	return unix.EIO
}
