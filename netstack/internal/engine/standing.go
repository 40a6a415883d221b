package engine

import (
	"container/list"
	"sync"
	"time"

	"nanotun/netstack/internal/dial"
	"nanotun/netstack/internal/events"
)

const (
	// standingLimit is how many standing decisions there are at a time. With what asks
	// for its destination each takes 400 bytes, and a browser has a few hundred.
	standingLimit = 65536

	// stoodDelay is how long what was counted may wait for Python, which a busy engine
	// would otherwise wake for each lot of flows that it dials.
	stoodDelay = time.Second

	// expiryDelay is how late Python may hear that a standing decision has expired: all
	// of them are looked at then. No flow is dialled by one that has.
	expiryDelay = 10 * time.Second

	// withdrawLot is how many ends of decisions are told at a time, in some 100 us.
	withdrawLot = 256
)

// standingKey is what a standing decision is about.
type standingKey struct {
	host      [16]byte // IPv4 in the first four bytes
	port      uint16
	six, ours bool
}

func standingKeyOf(t *tuple, ours bool) standingKey {
	return standingKey{host: t.destination, port: t.destinationPort, six: t.six, ours: ours}
}

// standing is one standing decision: flows of this machine, or those of others, to one
// destination are dialled without a question.
type standing struct {
	all     *standings
	number  uint64
	key     standingKey
	course  *dial.Course
	request []byte
	note    uint64    // Python's, of its flows
	until   time.Time // zero: it does not expire

	place   *list.Element // in standings.order; nil: it is over, and only its flows are left
	flows   int           // those that are dialled, half-open or established
	counted Stood         // since it was told
	dirty   bool          // in standings.dirty
}

// Stood is struct ns_stood in Go's terms, field by field: what the flows of a standing
// decision did since the last time.
type Stood struct {
	Number          uint64
	Decided, Joined uint64
	Microseconds    uint64 // that the joined ones took to dial, together
	Abandoned       uint64 // microseconds: the longest dial of one that was given up
	Address         uint32 // the number of the last one's
	Over            uint32 // 1: the decision and all of its flows are gone
}

// standings has the standing decisions.
//
// Rules
//   - A decision is over when it was withdrawn, replaced, has expired, or made room for
//     another. No flow begins by it from then on, and those that have begun go on.
//   - A StandingEnded event follows once it is over and has no flows: one for each
//     decision, and nothing is counted after it.
//   - What was counted is there for take before the event about it is posted.
type standings struct {
	post        func(events.Event)
	limit       int
	stoodDelay  time.Duration
	expiryDelay time.Duration

	mu      sync.Mutex
	last    uint64
	entries map[standingKey]*standing
	order   *list.List  // of *standing, the one that was used last first
	dirty   []*standing // whose counts are not 0
	telling *time.Timer // nil: Python knows that there are some, or there are none
	expiry  *time.Timer
	due     time.Time // when expiry goes off; zero: it does not
	closed  bool
}

func newStandings(post func(events.Event)) *standings {
	return &standings{
		post: post, limit: standingLimit, stoodDelay: stoodDelay, expiryDelay: expiryDelay,
		entries: make(map[standingKey]*standing), order: list.New(),
	}
}

// stand adds a decision, which holds for so long, or until it is withdrawn if that is 0.
func (s *standings) stand(key standingKey, course *dial.Course, request []byte, lasts time.Duration, note uint64, now time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[key]; old != nil {
		s.endLocked(old)
	} else if len(s.entries) >= s.limit {
		s.endLocked(s.order.Back().Value.(*standing))
	}
	s.last++
	d := &standing{all: s, number: s.last, key: key, course: course, request: request, note: note}
	d.counted.Number = d.number
	d.place = s.order.PushFront(d)
	s.entries[key] = d
	if lasts > 0 {
		d.until = now.Add(lasts)
		s.armLocked(d.until, now)
	}
	return d.number
}

// begin finds the decision for a flow, which is dialled by it from then on. nil: there is
// none.
func (s *standings) begin(key standingKey, now time.Time) *standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.entries[key]
	if d == nil {
		return nil
	}
	if d.expired(now) {
		s.endLocked(d)
		return nil
	}
	s.order.MoveToFront(d.place)
	d.flows++
	d.counted.Decided++
	s.countedLocked(d)
	return d
}

// joined counts a flow whose dial took so long and came to the address of this number.
func (d *standing) joined(took time.Duration, address int) {
	s := d.all
	s.mu.Lock()
	defer s.mu.Unlock()
	d.counted.Joined++
	d.counted.Microseconds += uint64(took.Microseconds())
	d.counted.Address = uint32(address)
	s.countedLocked(d)
}

// abandoned counts a flow that leaves pendingTable, so long after its dial began, before that
// has ended. Python does not know it, but may doubt who was silent for so long.
func (d *standing) abandoned(after time.Duration) {
	s := d.all
	s.mu.Lock()
	defer s.mu.Unlock()
	d.counted.Abandoned = max(d.counted.Abandoned, uint64(after.Microseconds()))
	s.countedLocked(d)
}

// ended is called once for each flow that has begun, when it is gone or Python joins it.
func (d *standing) ended() {
	s := d.all
	s.mu.Lock()
	defer s.mu.Unlock()
	d.flows--
	d.lookLocked()
}

// withdraw ends all decisions: no flow begins by any of them once it holds the lock. The
// thread that has the device need not wait until their ends are told.
func (s *standings) withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.order
	s.order, s.entries = list.New(), make(map[standingKey]*standing)
	for n := 1; old.Len() > 0; n++ {
		old.Remove(old.Front()).(*standing).overLocked()
		if n%withdrawLot == 0 {
			s.mu.Unlock()
			s.mu.Lock()
		}
	}
}

// take moves what was counted to an array, and returns how much of it was filled.
func (s *standings) take(into []Stood) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(into), len(s.dirty))
	for i, d := range s.dirty[:n] {
		if d.place == nil && d.flows == 0 {
			d.counted.Over = 1
		}
		into[i] = d.counted
		d.counted, d.dirty = Stood{Number: d.number}, false
	}
	s.dirty = append(s.dirty[:0], s.dirty[n:]...)
	if len(s.dirty) == 0 {
		s.dirty = nil
	}
	return n
}

func (s *standings) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

func (s *standings) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, timer := range []*time.Timer{s.telling, s.expiry} {
		if timer != nil {
			timer.Stop()
		}
	}
}

func (d *standing) expired(now time.Time) bool { return !d.until.IsZero() && !now.Before(d.until) }

func (s *standings) endLocked(d *standing) {
	delete(s.entries, d.key)
	s.order.Remove(d.place)
	d.overLocked()
}

// overLocked has a decision be over.
func (d *standing) overLocked() {
	d.place = nil
	d.lookLocked()
}

// lookLocked tells Python of a decision that has ended just now, if it has.
func (d *standing) lookLocked() {
	if d.place == nil && d.flows == 0 {
		d.all.post(events.Event{Kind: events.StandingEnded, Flow: d.number})
	}
}

// countedLocked puts a decision among those whose counts are to be told.
func (s *standings) countedLocked(d *standing) {
	if d.dirty {
		return
	}
	d.dirty = true
	s.dirty = append(s.dirty, d)
	if s.telling == nil && !s.closed {
		s.telling = time.AfterFunc(s.stoodDelay, s.tell)
	}
}

// tell is called by the timer.
func (s *standings) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.telling = nil
	if len(s.dirty) > 0 && !s.closed {
		s.post(events.Event{Kind: events.Stood})
	}
}

// armLocked sets the timer for decisions that expire then.
func (s *standings) armLocked(until, now time.Time) {
	if earliest := now.Add(s.expiryDelay); until.Before(earliest) {
		until = earliest
	}
	if s.closed || !s.due.IsZero() && !until.Before(s.due) {
		return
	}
	s.due = until
	if s.expiry == nil {
		s.expiry = time.AfterFunc(until.Sub(now), s.expire)
	} else {
		s.expiry.Reset(until.Sub(now))
	}
}

// expire is called by the timer.
func (s *standings) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.due = time.Time{}
	var next time.Time
	for _, d := range s.entries {
		switch {
		case d.until.IsZero():
		case d.expired(now):
			s.endLocked(d)
		case next.IsZero() || d.until.Before(next):
			next = d.until
		}
	}
	if !next.IsZero() {
		s.armLocked(next, now)
	}
}
