package engine

import (
	"sync"
	"time"

	"nanotun/netstack/internal/events"
)

// crowding is why flows had to make way, as in netstack.h.
type crowding int32

const (
	crowdProgram  crowding = 1 // the programs of one user
	crowdSource   crowding = 2 // one other machine
	crowdMachine  crowding = 3 // this machine
	crowdOthers   crowding = 4 // all other machines together
	crowdHalfOpen crowding = 5 // apps that do not complete what they ask for
	crowdings              = 6
)

const (
	// noticeInterval is how often Python is told of one cause.
	noticeInterval = 2 * time.Second

	// noUser is the uid of programs that cannot be told apart.
	noUser = 1<<32 - 1
)

// notices tells Python that flows have to make way.
//
// Rules
//   - The first flow is told of at once, and those of the next interval together when it
//     is over: a count is never late by more than that, nor left over.
type notices struct {
	post     func(events.Event)
	interval time.Duration

	mu     sync.Mutex
	held   [crowdings]events.Event // what is to be told; Flow is how many
	last   [crowdings]time.Time
	timer  *time.Timer // nil: nothing is held back
	closed bool
}

func newNotices(post func(events.Event)) *notices {
	return &notices{post: post, interval: noticeInterval}
}

// note notes one flow that made way, because there were as many as limit says.
func (n *notices) note(why crowding, t *tuple, p party, limit int, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	event := t.event(events.Crowded, n.held[why].Flow+1)
	event.Error = int32(why)
	event.BytesUp, event.BytesDown = noUser, uint64(limit)
	if p.user.known {
		event.BytesUp = uint64(p.user.uid)
	}
	n.held[why] = event
	n.tell(now)
}

func (n *notices) expired() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.timer = nil
	n.tell(time.Now())
}

// tell posts what may be told now, and sets the timer for the rest. mu is held.
func (n *notices) tell(now time.Time) {
	var wait time.Duration
	for why := range n.held {
		if n.held[why].Flow == 0 || n.closed {
			continue
		}
		if left := n.last[why].Add(n.interval).Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		n.post(n.held[why])
		n.held[why], n.last[why] = events.Event{}, now
	}
	if wait > 0 && n.timer == nil {
		n.timer = time.AfterFunc(wait, n.expired)
	}
}

func (n *notices) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.timer != nil {
		n.timer.Stop()
	}
}

// crowding is the cause of a rule by which somebody of p has to make way, and how many
// there may be of that: 0 if it is simply full.
func (c *crowd) crowding(p party, rule rule) (why crowding, limit int) {
	why, limit = crowdOthers, c.perSide
	if p.class.isHere() {
		why = crowdMachine
	}
	switch rule {
	case ruleFull:
		limit = 0
	case ruleParty:
		why, limit = crowdSource, c.perParty
		if p.class.isHere() {
			why = crowdProgram
		}
	}
	return why, limit
}
