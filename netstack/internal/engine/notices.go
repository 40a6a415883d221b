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
type notices struct {
	post func(events.Event)

	mu    sync.Mutex
	count [crowdings]uint64 // since the last event
	last  [crowdings]time.Time
}

// note notes one flow that made way, because there were as many as limit says.
func (n *notices) note(why crowding, t *tuple, p party, limit int, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count[why]++
	if last := n.last[why]; !last.IsZero() && now.Sub(last) < noticeInterval {
		return
	}
	event := t.event(events.Crowded, n.count[why])
	event.Error = int32(why)
	event.BytesUp, event.BytesDown = noUser, uint64(limit)
	if p.user.known {
		event.BytesUp = uint64(p.user.uid)
	}
	n.count[why], n.last[why] = 0, now
	n.post(event)
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
