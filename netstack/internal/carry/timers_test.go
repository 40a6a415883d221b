package carry

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func newLoop(t *testing.T) *Loop {
	t.Helper()
	l, err := NewLoop(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// alarm is an Expirer that tells.
type alarm struct {
	Timer

	number int
	told   chan<- int
}

func newAlarm(number int, told chan<- int) *alarm {
	a := &alarm{number: number, told: told}
	a.Expires = a
	return a
}

func (a *alarm) Expired() { a.told <- a.number }

func heard(t *testing.T, told <-chan int) int {
	t.Helper()
	select {
	case n := <-told:
		return n
	case <-time.After(patience):
		t.Fatal("a timer does not expire")
		return 0
	}
}

// Timers expire in the order of their times, each once, in whatever order they were set;
// those that were stopped do not, and one that was set anew only at its new time.
func TestTimersInOrder(t *testing.T) {
	l, told := newLoop(t), make(chan int, 1000)
	alarms := make([]*alarm, 100)
	for i := range alarms {
		alarms[i] = newAlarm(i, told)
	}
	base := Clock() + 10*time.Millisecond
	for _, i := range rand.Perm(len(alarms)) {
		l.SetTimer(&alarms[i].Timer, base+time.Hour)
	}
	for _, i := range rand.Perm(len(alarms)) {
		l.SetTimer(&alarms[i].Timer, base+time.Duration(i)*time.Microsecond)
	}
	for i := 1; i < len(alarms); i += 2 {
		l.StopTimer(&alarms[i].Timer)
		l.StopTimer(&alarms[i].Timer) // once more does no harm
	}
	for i := 0; i < len(alarms); i += 2 {
		if n := heard(t, told); n != i {
			t.Fatalf("%d, not %d", n, i)
		}
	}
	last := newAlarm(-1, told)
	l.SetTimer(&last.Timer, Clock())
	if n := heard(t, told); n != -1 || len(told) > 0 {
		t.Errorf("%d, and %d more", n, len(told))
	}
}

// A timer wakes a loop that sleeps without an end, and one that sleeps until a later one.
func TestTimerWakes(t *testing.T) {
	l, told := newLoop(t), make(chan int, 10)
	asleep := func() {
		for sleeps := false; !sleeps; time.Sleep(time.Millisecond) {
			l.mu.Lock()
			sleeps = l.sleeping
			l.mu.Unlock()
		}
	}
	asleep()
	late, early := newAlarm(1, told), newAlarm(2, told)
	l.SetTimer(&late.Timer, Clock()+time.Hour)
	asleep()
	l.SetTimer(&early.Timer, Clock()+5*time.Millisecond)
	if n := heard(t, told); n != 2 {
		t.Errorf("%d", n)
	}
}

// A loop that has no timers any more sleeps without an end again.
func TestLoopRests(t *testing.T) {
	l, told := newLoop(t), make(chan int, 10)
	once := newAlarm(1, told)
	l.SetTimer(&once.Timer, Clock())
	heard(t, told)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		rests := l.sleeping && !l.timed
		l.mu.Unlock()
		if rests {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it wakes again and again")
		}
	}
}

// watcher counts.
type watcher struct {
	mu    sync.Mutex
	calls int
}

func (w *watcher) Ready(uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
}

// A flow takes over a socket that its loop watched for somebody else: what came before is
// carried, and what comes later, and the other one hears no more.
func TestWatchedSocket(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixtureOn(t, fds, time.Hour)
	var w watcher
	if err := f.loop.WatchFor(fds[0], &w, unix.EPOLLIN|unix.EPOLLET); err != nil {
		t.Fatal(err)
	}
	f.loop.Unwatch(fds[0])
	if _, err := unix.Write(fds[1], []byte("early")); err != nil {
		t.Fatal(err)
	}
	f.flow.Watched = true
	f.flow.Start()
	if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != "early" {
		t.Errorf("the app got %q", got.Payload())
	}
	if _, err := unix.Write(fds[1], []byte("later")); err != nil {
		t.Fatal(err)
	}
	if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != "later" {
		t.Errorf("the app got %q", got.Payload())
	}
	f.pump(header.TCPFlagAck, []byte("up"))
	if got := f.upBytes(); got != "up" {
		t.Errorf("%q came up", got)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls > 0 {
		t.Errorf("the watcher was called %d times", w.calls)
	}
}
