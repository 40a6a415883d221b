package carry

import (
	"container/heap"
	"time"
)

// timerTick is how long a loop sleeps at most while it has timers or had some lately. So a
// timer that is later than that wakes nobody when it is set, and most timers are stopped
// long before they are due.
const timerTick = 100 * time.Millisecond

// Expirer is who a timer is for.
type Expirer interface {
	// Expired is called in the loop's goroutine. A call may come after StopTimer, in the
	// same turn.
	Expired()
}

// Timer is one of a loop's timers. Expires is set before it is used.
type Timer struct {
	Expires Expirer

	due time.Duration
	at  int // its place in timers, from 1; 0: it is not set
}

// Clock tells the time since the library was loaded, which is what SetTimer takes.
func Clock() time.Duration { return clock() }

// ClockAt is what Clock told at a time that has a monotonic part.
func ClockAt(t time.Time) time.Duration { return t.Sub(began) }

// SetTimer has the timer expire at this time instead of another one.
func (l *Loop) SetTimer(t *Timer, due time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.due = due
	if t.at > 0 {
		heap.Fix(&l.timers, t.at-1)
	} else {
		heap.Push(&l.timers, t)
	}
	l.timed = true
	if due < l.wakesAt {
		l.wakeUp()
	}
}

// StopTimer has it not expire.
func (l *Loop) StopTimer(t *Timer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.at > 0 {
		heap.Remove(&l.timers, t.at-1)
	}
}

// untilTimer is how long the loop may sleep because of its timers; negative for ever. mu
// is held.
func (l *Loop) untilTimer(now time.Duration) time.Duration {
	switch {
	case len(l.timers) > 0:
		return max(0, min(timerTick, l.timers[0].due-now))
	case l.timed:
		return timerTick
	}
	return -1
}

// collectTimers adds those that are due. mu is held.
func (l *Loop) collectTimers(into []request) []request {
	if len(l.timers) == 0 {
		return into
	}
	now := clock()
	for len(l.timers) > 0 && l.timers[0].due <= now {
		into = append(into, request{timer: heap.Pop(&l.timers).(*Timer)})
	}
	return into
}

// timers is a heap.Interface.
type timers []*Timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due < t[j].due }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].at, t[j].at = i+1, j+1
}

func (t *timers) Push(x any) {
	timer := x.(*Timer)
	*t = append(*t, timer)
	timer.at = len(*t)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	timer := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	timer.at = 0
	return timer
}
