package engine

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// timerTick is what the stack's timers are rounded up to.
//
// On this link a round trip takes some 100 microseconds, and RACK (RFC 8985)
// sets its probe timer to twice that with every segment it sends. Timers that
// short do nothing but wake threads: they were half of the cost of a download.
// They exist for losses, which this link has only if a queue overflows, and then
// 10 ms more do not matter.
const timerTick = 10 * time.Millisecond

// coarseClock is a clock whose timers go off a little late.
type coarseClock struct{ tcpip.Clock }

func newClock() tcpip.Clock { return coarseClock{tcpip.NewStdClock()} }

// AfterFunc implements tcpip.Clock.
func (c coarseClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return coarseTimer{c.Clock.AfterFunc(roundUp(d), f)}
}

type coarseTimer struct{ tcpip.Timer }

// Reset implements tcpip.Timer.
func (t coarseTimer) Reset(d time.Duration) { t.Timer.Reset(roundUp(d)) }

func roundUp(d time.Duration) time.Duration {
	return (d + timerTick - 1) / timerTick * timerTick
}
