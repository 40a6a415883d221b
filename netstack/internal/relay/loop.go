package relay

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// epollBatch is how many ready sockets one wait tells of.
	epollBatch = 128

	// sweepEvery is how often half-closed flows are looked at for idleness.
	sweepEvery = 5 * time.Second
)

var smallBuffers = sync.Pool{New: func() any { return new([smallRead]byte) }}

// Loop waits for readiness of the sockets of many flows and runs their steps,
// in one goroutine.
type Loop struct {
	epoll, wake int
	halfClosed  time.Duration
	done        chan struct{}
	file        *os.File // the epoll set, for Go's poller
	conn        syscall.RawConn

	// Of the loop's goroutine.
	ready     []unix.EpollEvent
	poll      func(uintptr) bool // pollOnce
	found     int
	idle      bool
	nextSweep time.Time

	mu       sync.Mutex
	flows    map[int32]*Flow // by fd
	asked    []request
	waking   bool
	closing  bool
	halves   map[*Flow]struct{} // flows with one direction ended
	sleeping bool
	guest    *Guest
	alarm    bool // a deadline is set
}

// Guest is another fd that a loop watches for a while, on behalf of its owner.
type Guest struct {
	FD int
	// Ready is called in the loop's goroutine while FD is readable. It returns
	// whether there was anything, and whether the guest wants to leave.
	Ready func() (something, leave bool)
	// Quiet is how long the guest stays without anything.
	Quiet time.Duration
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
	l.wakeUp() // it may be in a wait without end
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

func (l *Loop) leave(guest *Guest) {
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, guest.FD, nil)
	l.mu.Lock()
	l.guest = nil
	l.mu.Unlock()
	guest.Left()
}

type request struct {
	flow  *Flow
	marks uint32
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
		done:   make(chan struct{}),
		ready:  make([]unix.EpollEvent, epollBatch),
		flows:  make(map[int32]*Flow),
		halves: make(map[*Flow]struct{}),
	}
	l.poll = l.pollOnce
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &event); err != nil {
		_ = unix.Close(wake)
		_ = unix.Close(epoll)
		return nil, err
	}
	_ = unix.SetNonblock(epoll, true) // or os.NewFile would not poll it
	l.file = os.NewFile(uintptr(epoll), "epoll")
	if l.conn, err = l.file.SyscallConn(); err != nil {
		_ = unix.Close(wake)
		_ = l.file.Close()
		return nil, err
	}
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
	_ = l.file.Close()
}

// How a socket is watched: edge-triggered, for a step always goes on until it
// would block. Room to write is watched for from the first time there was none;
// nearly every socket has room when it is new, and word of it would cost a
// wake-up for each flow.
const (
	watchReading = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	watchBoth    = watchReading | unix.EPOLLOUT
)

// watch registers a flow's socket.
func (l *Loop) watch(f *Flow) error {
	l.mu.Lock()
	l.flows[int32(f.fd)] = f
	l.mu.Unlock()
	event := unix.EpollEvent{Events: watchReading, Fd: int32(f.fd)}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, f.fd, &event)
}

// watchRoom has the loop tell when the socket takes more. It tells at once if
// it does already.
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
	l.asked = append(l.asked, request{f, marks})
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
	if f.upDone && f.downDone {
		return
	}
	f.loop.mu.Lock()
	f.loop.halves[f] = struct{}{}
	f.loop.wakeUp() // it may be in a wait without end
	f.loop.mu.Unlock()
}

func (l *Loop) run() {
	defer close(l.done)
	flows := make([]request, 0, epollBatch)
	for {
		idle, end := l.prepareToSleep()
		if end {
			return
		}
		n, timeout := l.wait(idle)
		var guest *Guest
		flows, guest = l.collect(l.ready[:n], flows[:0])
		for _, r := range flows {
			r.flow.run(r.marks)
		}
		clear(flows)
		if guest != nil {
			l.serve(guest)
		}
		if timeout {
			l.elapsed()
		}
	}
}

// prepareToSleep returns whether there is nothing to do but to wait, and
// whether the loop is to end.
func (l *Loop) prepareToSleep() (idle, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return false, true
	}
	if len(l.asked) > 0 {
		return false, false
	}
	l.sleeping = true
	if !l.alarm && (l.guest != nil || len(l.halves) > 0) {
		l.alarm = true
		next := sweepEvery
		if l.guest != nil {
			next = l.guest.Quiet
		}
		_ = l.file.SetReadDeadline(time.Now().Add(next))
	}
	return true, false
}

// wait fills l.ready and returns how many sockets it tells of. If idle it waits
// for the first one; timeout means that the alarm went off instead.
//
// It waits in Go's own poller, of which the epoll set is a member. A goroutine
// that sat in epoll_wait(2) itself would have its processor taken away and
// given back each time, and that watching alone took a tenth of the CPU.
func (l *Loop) wait(idle bool) (n int, timeout bool) {
	l.found, l.idle = 0, idle
	err := l.conn.Read(l.poll)
	return l.found, err != nil
}

func (l *Loop) pollOnce(fd uintptr) bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&l.ready[0])), uintptr(len(l.ready)), 0, 0, 0)
	if errno == 0 {
		l.found = int(n)
	}
	return l.found > 0 || !l.idle
}

// elapsed does what is due when the alarm went off.
func (l *Loop) elapsed() {
	l.mu.Lock()
	l.alarm = false
	guest := l.guest
	l.mu.Unlock()
	_ = l.file.SetReadDeadline(time.Time{})
	if guest != nil && time.Since(guest.last) >= guest.Quiet {
		l.leave(guest)
	}
	if now := time.Now(); now.After(l.nextSweep) {
		l.nextSweep = now.Add(sweepEvery)
		l.sweep()
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
			continue
		}
		marks := uint32(0)
		if event.Events&^unix.EPOLLOUT != 0 {
			marks |= markDown
		}
		if event.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			marks |= markError
		}
		if event.Events&unix.EPOLLOUT != 0 {
			marks |= markRoom
		}
		into = append(into, request{f, marks})
	}
	into = append(into, l.asked...)
	clear(l.asked)
	l.asked = l.asked[:0]
	return into, guest
}

// sweep ends half-closed flows that have been idle for too long.
func (l *Loop) sweep() {
	l.mu.Lock()
	var stale []*Flow
	for f := range l.halves {
		if f.Idle(l.halfClosed) {
			stale = append(stale, f)
		}
	}
	l.mu.Unlock()
	for _, f := range stale {
		f.expire()
	}
}
