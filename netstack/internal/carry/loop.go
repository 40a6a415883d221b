package carry

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// epollBatch is how many ready sockets one wait reports.
	epollBatch = 128

	// sweepPause is the least time between two looks at the flows that may be idle for a
	// limited time only: so long is one of them kept too long at most.
	sweepPause = time.Second

	// longestWait is for the flow that a sweep has ended and another thread still runs: its
	// time is over. In milliseconds it fits into what the kernel takes.
	longestWait = time.Hour

	// lostFor is how long an app may take nothing of what an upstream that has failed
	// left for it. An app that reads slowly gets all of it; one that does not read, but
	// waits until it can write, is not kept waiting.
	lostFor = 5 * time.Second
)

var smallBuffers = sync.Pool{New: func() any { return new([smallRead]byte) }}

// Loop waits for readiness of the sockets of many flows and runs their steps,
// in one goroutine.
type Loop struct {
	epoll, wake int
	halfClosed  time.Duration
	done        chan struct{}

	mu       sync.Mutex
	flows    map[int32]*Flow   // by fd
	watchers map[int32]Watcher // by fd
	asked    []request
	calls    []func()
	waking   bool
	closing  bool
	halves   map[*Flow]time.Duration // flows with one direction ended: how long they may be idle
	sleeping bool
	guest    *Guest
	hurry    time.Duration // of the guest's Late; the loop's goroutine's
	timers   timers
	timed    bool          // there are timers, or there were some lately
	wakesAt  time.Duration // when the sleep ends by itself, as clock tells it

	// sweepAt is when one of halves may have been idle for so long, as clock tells it; never,
	// while there is none. It is written with mu held.
	sweepAt atomic.Int64
}

// Guest is another fd that a loop watches for a while, on behalf of its owner.
type Guest struct {
	FD int
	// Ready is called in the loop's goroutine while FD is readable. It returns
	// whether there was anything, and whether the guest wants to leave.
	Ready func() (something, leave bool)
	// Quiet is how long the guest stays while nothing happens.
	Quiet time.Duration
	// Late is called in each turn of the loop. It returns within what time it is to be
	// called again, 0 if that does not matter.
	Late func() time.Duration
	// Left is called last, in the loop's goroutine, when FD is no longer
	// watched.
	Left func()

	last time.Time
}

// Host watches a guest. There is at most one.
func (l *Loop) Host(guest *Guest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.guest != nil || l.closing {
		return unix.EBUSY
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(guest.FD)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, guest.FD, &event); err != nil {
		return err
	}
	guest.last = time.Now()
	l.guest = guest
	l.wakeUp() // it may be in a wait without a timeout
	return nil
}

// serve lets the guest work.
func (l *Loop) serve(guest *Guest) {
	something, leave := guest.Ready()
	if something {
		guest.last = time.Now()
	}
	if leave {
		l.leave(guest)
	}
}

func (l *Loop) hosts() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guest != nil
}

func (l *Loop) leave(guest *Guest) {
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, guest.FD, nil)
	l.mu.Lock()
	l.guest = nil
	l.mu.Unlock()
	guest.Left()
}

// request is a flow with marks, a watcher with what its fd is ready for, or a timer.
type request struct {
	flow    *Flow
	marks   uint32
	watcher Watcher
	timer   *Timer
}

func (r *request) run() {
	switch {
	case r.flow != nil:
		r.flow.run(r.marks)
	case r.watcher != nil:
		r.watcher.Ready(r.marks)
	default:
		r.timer.Expires.Expired()
	}
}

// NewLoop starts a loop. A flow that has one direction ended and carries no
// byte for halfClosed is ended.
func NewLoop(halfClosed time.Duration) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, err
	}
	l := &Loop{
		epoll: epoll, wake: wake, halfClosed: halfClosed,
		done:     make(chan struct{}),
		flows:    make(map[int32]*Flow),
		watchers: make(map[int32]Watcher),
		halves:   make(map[*Flow]time.Duration),
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		_ = unix.Close(wake)
		_ = unix.Close(epoll)
		return nil, err
	}
	l.sweepAt.Store(math.MaxInt64)
	go l.run()
	return l, nil
}

// Close ends the loop and waits for it. The flows should have ended.
func (l *Loop) Close() {
	l.mu.Lock()
	l.closing = true
	l.wakeUp()
	l.mu.Unlock()
	<-l.done
	l.mu.Lock()
	l.waking = true // nobody writes to the number again
	l.mu.Unlock()
	_ = unix.Close(l.wake)
	_ = unix.Close(l.epoll)
}

// Sockets are watched edge-triggered, because a step always goes on until it would
// block. Room to write is watched only after a socket was full for the first time:
// nearly every new socket has room, and to be told so would cost a wake-up for
// each flow.
//
// A read that takes less than it could has emptied the socket, unless the other side has
// ended, or there is urgent data, at which each read stops.
const (
	watchReading = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET
	watchBoth    = watchReading | unix.EPOLLOUT
)

// watch registers a flow's socket.
func (l *Loop) watch(f *Flow) error {
	l.mu.Lock()
	l.flows[int32(f.fd)] = f
	l.mu.Unlock()
	event := unix.EpollEvent{Events: watchReading, Fd: int32(f.fd)}
	how := unix.EPOLL_CTL_ADD
	if f.Watched {
		how = unix.EPOLL_CTL_MOD
	}
	return unix.EpollCtl(l.epoll, how, f.fd, &event)
}

// watchRoom has the loop tell when the socket takes more, at once if it already
// does.
func (l *Loop) watchRoom(f *Flow) {
	event := unix.EpollEvent{Events: watchBoth, Fd: int32(f.fd)}
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, f.fd, &event)
}

// forget is called before the flow's socket is closed, which takes it out of
// the epoll set.
func (l *Loop) forget(f *Flow) {
	l.mu.Lock()
	delete(l.flows, int32(f.fd))
	delete(l.halves, f)
	l.mu.Unlock()
}

// ask has the loop run a step of f soon. It never blocks.
func (l *Loop) ask(f *Flow, marks uint32) {
	l.mu.Lock()
	l.asked = append(l.asked, request{flow: f, marks: marks})
	l.wakeUp()
	l.mu.Unlock()
}

// Call has the loop's thread run f soon. It never blocks.
func (l *Loop) Call(f func()) {
	l.mu.Lock()
	l.calls = append(l.calls, f)
	l.wakeUp()
	l.mu.Unlock()
}

// wakeUp is called with mu held.
func (l *Loop) wakeUp() {
	if l.waking || !l.sleeping {
		return
	}
	l.waking = true
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(l.wake, one[:])
}

func (f *Flow) noteHalfClosed() {
	if !f.upDone || !f.downDone {
		f.halfClosed.Store(true)
		f.loop.limit(f, f.loop.halfClosed)
	}
}

// limit ends f when it has been idle for that long.
func (l *Loop) limit(f *Flow, idle time.Duration) {
	l.mu.Lock()
	l.halves[f] = idle
	l.sweepAt.Store(min(l.sweepAt.Load(), int64(clock()+idle)))
	l.wakeUp() // it may be in a longer wait
	l.mu.Unlock()
}

func (l *Loop) run() {
	defer close(l.done)
	ready := make([]unix.EpollEvent, epollBatch)
	flows := make([]request, 0, epollBatch)
	for {
		timeout, end := l.prepareToSleep()
		if end {
			return
		}
		n, err := unix.EpollWait(l.epoll, ready, timeout)
		if err != nil {
			n = 0 // EINTR
		}
		var guest *Guest
		flows, guest = l.collect(ready[:n], flows[:0])
		for i := range flows {
			flows[i].run()
		}
		clear(flows)
		if guest != nil {
			l.serve(guest)
		}
		for _, call := range l.takeCalls() {
			call()
		}
		l.hurry = 0
		if l.hosts() {
			l.hurry = l.guest.Late() // only this goroutine takes it away
		}
		if n == 0 && timeout > 0 {
			l.elapsed()
		}
		if int64(clock()) >= l.sweepAt.Load() {
			l.sweep()
		}
	}
}

// prepareToSleep returns the wait's timeout in milliseconds, -1 for none, and
// whether the loop is to end.
func (l *Loop) prepareToSleep() (timeout int, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing && len(l.calls) == 0 {
		return 0, true
	}
	if len(l.asked) > 0 || len(l.calls) > 0 {
		return 0, false
	}
	l.sleeping = true
	now := clock()
	wait := time.Duration(-1)
	switch {
	case l.guest != nil && l.hurry > 0:
		wait = l.hurry
	case l.guest != nil:
		wait = l.guest.Quiet
	case len(l.halves) > 0:
		wait = min(max(0, time.Duration(l.sweepAt.Load())-now), longestWait)
	}
	if timer := l.untilTimer(now); timer >= 0 && (wait < 0 || timer < wait) {
		wait = timer
	}
	if wait < 0 {
		l.wakesAt = math.MaxInt64
		return -1, false
	}
	l.wakesAt = now + wait
	return int((wait + time.Millisecond - 1) / time.Millisecond), false
}

// elapsed sees the guest off when it has been quiet, and forgets that there were timers.
func (l *Loop) elapsed() {
	l.mu.Lock()
	guest := l.guest
	l.timed = l.timed && len(l.timers) > 0
	l.mu.Unlock()
	if guest != nil && time.Since(guest.last) >= guest.Quiet {
		l.leave(guest)
	}
}

// collect turns readiness and requests into flows with marks, and returns the
// guest if its fd is ready.
func (l *Loop) collect(ready []unix.EpollEvent, into []request) (flows []request, guest *Guest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sleeping = false
	for i := range ready {
		event := &ready[i]
		if int(event.Fd) == l.wake {
			var sink [8]byte
			_, _ = unix.Read(l.wake, sink[:])
			l.waking = false
			continue
		}
		if l.guest != nil && int(event.Fd) == l.guest.FD {
			guest = l.guest
			continue
		}
		f := l.flows[event.Fd]
		if f == nil {
			if w := l.watchers[event.Fd]; w != nil {
				into = append(into, request{watcher: w, marks: event.Events})
			}
			continue
		}
		marks := uint32(0)
		if event.Events&^unix.EPOLLOUT != 0 {
			marks |= markDown
		}
		if event.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			marks |= markError
		}
		if event.Events&unix.EPOLLHUP != 0 {
			marks |= markHup
		}
		if event.Events&(unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP|unix.EPOLLPRI) != 0 {
			marks |= markAll
		}
		if event.Events&unix.EPOLLOUT != 0 {
			marks |= markRoom
		}
		into = append(into, request{flow: f, marks: marks})
	}
	into = append(into, l.asked...)
	clear(l.asked)
	l.asked = l.asked[:0]
	return l.collectTimers(into), guest
}

func (l *Loop) takeCalls() (calls []func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls, l.calls = l.calls, nil
	return calls
}

// sweep ends half-closed flows that have been idle for too long.
func (l *Loop) sweep() {
	now := clock()
	next := time.Duration(math.MaxInt64)
	var stale []*Flow
	l.mu.Lock()
	for f, idle := range l.halves {
		if due := f.Active() + idle; due <= now {
			stale = append(stale, f)
		} else {
			next = min(next, max(due, now+sweepPause))
		}
	}
	l.sweepAt.Store(int64(next))
	l.mu.Unlock()
	for _, f := range stale {
		f.expire()
	}
}
