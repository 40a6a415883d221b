package engine

import (
	"testing"
	"time"

	"nanotun/netstack/internal/events"
)

// The first flow that makes way is told of at once, and those that follow soon are counted
// and told of when the interval is over, without another one; each cause by itself, and
// nothing once the notices are closed.
func TestNoticesLeaveNothingOver(t *testing.T) {
	const interval = 500 * time.Millisecond
	posted := make(chan events.Event, 10)
	n := newNotices(func(event events.Event) { posted <- event })
	n.interval = interval
	began := time.Now()
	note := func(why crowding, times int) {
		for range times {
			n.note(why, &tuple{sourcePort: 7}, party{user: user{uid: 1000, known: true}}, 4, time.Now())
		}
	}
	expect := func(why crowding, times uint64) {
		t.Helper()
		select {
		case e := <-posted:
			if crowding(e.Error) != why || e.Flow != times || e.BytesUp != 1000 || e.BytesDown != 4 || e.SourcePort != 7 {
				t.Errorf("%+v", e)
			}
		case <-time.After(patience):
			t.Fatalf("%d of cause %d are never told of", times, why)
		}
	}
	note(crowdProgram, 4)
	expect(crowdProgram, 1)
	note(crowdMachine, 1)
	expect(crowdMachine, 1)
	expect(crowdProgram, 3)
	if took := time.Since(began); took < interval {
		t.Errorf("told of again after %s", took)
	}
	note(crowdProgram, 2)
	n.close()
	time.Sleep(interval + 100*time.Millisecond)
	if len(posted) != 0 {
		t.Errorf("%+v", <-posted)
	}
}

// With nothing to tell there is no timer.
func TestNoticesRest(t *testing.T) {
	n := newNotices(func(events.Event) {})
	n.interval = time.Millisecond
	n.note(crowdProgram, &tuple{}, party{}, 4, time.Now())
	n.note(crowdProgram, &tuple{}, party{}, 4, time.Now())
	eventually(t, "the timer to be gone", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.timer == nil && n.held[crowdProgram].Flow == 0
	})
}
