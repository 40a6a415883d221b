package engine

import (
	"time"

	"golang.org/x/time/rate"
)

// pace is how fast flows are told of.
type pace struct {
	// turnHere and turnElsewhere are how many flows are told in a turn of the
	// reactor. At 200 us each a turn stays below 10 ms; and as what happens to the
	// dials comes back in the next turns, longer turns would take all of the time.
	turnHere, turnElsewhere int

	// tenureHere and tenureElsewhere are how long a dial may go on before it can be
	// made to make way. Otherwise a burst larger than the stage would begin dials
	// only to give them up. A newcomer waits as a packet meanwhile.
	tenureHere, tenureElsewhere time.Duration

	// A class is crowded from this many in the queue until none are left; 500
	// connections at a time are no crowd. Then no more than rate are told in a
	// second, after a burst, and but for strangers one more for each that was joined:
	// the proxy would be the next to be flooded. It would lose the SYN of a dial
	// that matters, and it may keep a connection to a destination that is silent for
	// two minutes, though the dial was given up.
	crowdedFrom [classes]int
	rate        [classes]rate.Limit
	burst       [classes]int
}

func newPace() pace {
	return pace{
		turnHere: 32, turnElsewhere: 8,
		tenureHere: 250 * time.Millisecond, tenureElsewhere: time.Second,
		crowdedFrom: [classes]int{here: 1024, again: 1, known: 256, strangers: 256},
		rate:        [classes]rate.Limit{here: 500, again: 100, known: 100, strangers: 50},
		burst:       [classes]int{here: 128, again: 32, known: 128, strangers: 128},
	}
}
