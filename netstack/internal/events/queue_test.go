package events

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newQueue(t *testing.T) *Queue {
	t.Helper()
	q, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

// readable tells whether the eventfd is, or becomes so within the wait.
func readable(q *Queue, wait time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(wait.Milliseconds()))
		if err != unix.EINTR {
			return n == 1
		}
	}
}

func drain(q *Queue, limit int) (flows []uint64) {
	q.Drain(limit, func(e *Event) { flows = append(flows, e.Flow) })
	return flows
}

func expect(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("drained %v, not %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("drained %v, not %v", got, want)
		}
	}
}

// Events come out in the order they went in, however they were posted, and the
// eventfd is readable from the first urgent one until all were taken.
func TestOrder(t *testing.T) {
	q := newQueue(t)
	if readable(q, 0) || q.Waiting() {
		t.Error("a new queue has something")
	}
	q.PostQuiet(Event{Flow: 1})
	q.PostLazy(Event{Flow: 2})
	q.Post(Event{Flow: 3})
	q.Post(Event{Flow: 4})
	if !readable(q, 0) || !q.Waiting() {
		t.Error("nothing to read after Post")
	}
	expect(t, drain(q, 100), 1, 2, 3, 4)
	if readable(q, 0) || q.Waiting() {
		t.Error("still readable after all were taken")
	}
	q.Post(Event{Flow: 5})
	if !readable(q, 0) {
		t.Error("not readable a second time")
	}
}

// Drain in parts keeps the order, and the eventfd stays readable until the last.
func TestDrainInParts(t *testing.T) {
	q := newQueue(t)
	for flow := range uint64(5) {
		q.Post(Event{Flow: flow})
	}
	expect(t, drain(q, 0))
	expect(t, drain(q, 2), 0, 1)
	if !readable(q, 0) {
		t.Error("not readable with three left")
	}
	q.Post(Event{Flow: 5})
	expect(t, drain(q, 3), 2, 3, 4)
	if !readable(q, 0) {
		t.Error("not readable with one left")
	}
	expect(t, drain(q, 3), 5)
	if readable(q, 0) {
		t.Error("readable with none left")
	}
}

// PostQuiet never makes the eventfd readable, but its event is there.
func TestPostQuiet(t *testing.T) {
	q := newQueue(t)
	q.PostQuiet(Event{Flow: 1})
	if readable(q, 2*lazyDelay) {
		t.Error("readable")
	}
	if !q.Waiting() {
		t.Error("not there")
	}
	expect(t, drain(q, 1), 1)
}

// PostLazy makes the eventfd readable, not at once but within the delay, once
// for all; taken before that, it does not.
func TestPostLazy(t *testing.T) {
	q := newQueue(t)
	started := time.Now()
	q.PostLazy(Event{Flow: 1})
	q.PostLazy(Event{Flow: 2})
	if readable(q, 0) && time.Since(started) < lazyDelay/2 {
		t.Error("readable at once")
	}
	if !readable(q, 20*lazyDelay) {
		t.Error("never readable")
	}
	expect(t, drain(q, 10), 1, 2)
	q.PostLazy(Event{Flow: 3})
	expect(t, drain(q, 10), 3)
	if readable(q, 2*lazyDelay) {
		t.Error("readable for what was taken")
	}
	q.PostLazy(Event{Flow: 4})
	if !readable(q, 20*lazyDelay) {
		t.Error("never readable again")
	}
}

// Wake makes the eventfd readable without an event, WakeLater within the delay, and a
// Drain that takes nothing ends both.
func TestWake(t *testing.T) {
	q := newQueue(t)
	q.Wake()
	if !readable(q, 0) || q.Waiting() {
		t.Error("not readable after Wake, or with an event")
	}
	expect(t, drain(q, 10))
	if readable(q, 0) {
		t.Error("still readable")
	}
	started := time.Now()
	q.WakeLater()
	if readable(q, 0) && time.Since(started) < lazyDelay/2 {
		t.Error("readable at once")
	}
	if !readable(q, 20*lazyDelay) {
		t.Error("never readable")
	}
	expect(t, drain(q, 10))
	q.WakeLater()
	expect(t, drain(q, 10))
	if readable(q, 2*lazyDelay) {
		t.Error("readable though somebody has looked")
	}
}

// After Close nothing is signalled and nothing breaks; a second Close is none.
func TestClose(t *testing.T) {
	q, err := New()
	if err != nil {
		t.Fatal(err)
	}
	q.PostLazy(Event{Flow: 1})
	q.Close()
	q.Post(Event{Flow: 2})
	q.PostLazy(Event{Flow: 3})
	q.Close()
	other, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	fds := []unix.PollFd{{Fd: int32(other), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, int(2*lazyDelay/time.Millisecond)); n != 0 {
		t.Error("the number of the closed eventfd was written to")
	}
}

// Many posters and one taker lose nothing, and the taker never waits in vain.
func TestManyPosters(t *testing.T) {
	const posters, each = 8, 2000
	q := newQueue(t)
	var wait sync.WaitGroup
	for p := range uint64(posters) {
		wait.Go(func() {
			for i := range uint64(each) {
				event := Event{Flow: p*each + i}
				if i%3 == 0 && i != each-1 {
					q.PostLazy(event)
				} else {
					q.Post(event)
				}
			}
		})
	}
	last := make([]int64, posters)
	for p := range last {
		last[p] = -1
	}
	for seen := 0; seen < posters*each; {
		if !readable(q, time.Minute) {
			t.Fatalf("not readable after %d events", seen)
		}
		for _, flow := range drain(q, 7) {
			p, i := flow/each, int64(flow%each)
			if i != last[p]+1 {
				t.Fatalf("poster %d: %d after %d", p, i, last[p])
			}
			last[p] = i
			seen++
		}
	}
	wait.Wait()
}
