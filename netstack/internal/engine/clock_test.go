package engine

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// recordingClock notes what its timers are set to and never fires them.
type recordingClock struct {
	tcpip.Clock
	set []time.Duration
}

type recordingTimer struct{ clock *recordingClock }

func (c *recordingClock) AfterFunc(d time.Duration, _ func()) tcpip.Timer {
	c.set = append(c.set, d)
	return recordingTimer{c}
}

func (recordingTimer) Stop() bool { return true }

func (t recordingTimer) Reset(d time.Duration) { t.clock.set = append(t.clock.set, d) }

// A timer of the stack never goes off early, and never in less than a tick.
func TestTimersAreRoundedUp(t *testing.T) {
	for _, test := range []struct{ asked, want time.Duration }{
		{0, 0},
		{time.Microsecond, timerTick},
		{timerTick, timerTick},
		{timerTick + 1, 2 * timerTick},
		{200 * time.Millisecond, 200 * time.Millisecond},
	} {
		recorder := &recordingClock{}
		timer := coarseClock{recorder}.AfterFunc(test.asked, func() {})
		timer.Reset(test.asked)
		if len(recorder.set) != 2 || recorder.set[0] != test.want || recorder.set[1] != test.want {
			t.Errorf("asked for %v, the clock was set to %v, want %v twice", test.asked, recorder.set, test.want)
		}
	}
}
