package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/events"
)

// waiting is a SYN whose flow waits for a decision. The packet is kept, not an
// endpoint: until the upstream is connected the app hears nothing, and any
// answer can be given to it.
type waiting struct {
	flow   uint64
	tuple  tuple
	id     stack.TransportEndpointID
	packet *stack.PacketBuffer
	isn    uint32
	party  party

	stage  *crowd // pendingTable's queue or dials
	member *member

	held *heldFlow // instead of packet: the app was accepted

	dial     *flowDial // until its end was taken
	standing *standing // has decided about it, and ends with it
	told     bool      // of what a standing decision has decided, Python knows this one

	asked time.Duration // when the SYN came, as carry.Clock tells it
	note  uint64        // Python's, of the latest dial
}

// known tells whether Python knows the flow.
func (w *waiting) known(p *pendingTable) bool {
	return w.stage == p.dials && (w.standing == nil || w.told)
}

// release frees what an entry that has left the table holds.
func (w *waiting) release() {
	if w.held != nil {
		w.held.giveUp()
		return
	}
	w.packet.DecRef()
}

// pendingTable holds the flows that wait, at two stages: those in the queue are a
// packet and a record, and Python has not been told of them; those in the dials it
// has been told of, and decides or dials, or they are dialled by a standing decision
// and Python is told only if that fails.
//
// Rules
//   - A repeated SYN of a waiting flow is no new flow. One with another
//     sequence number is: the app gave up and uses the port again.
//   - Each entry leaves by exactly one of take (a decision) and remove (the
//     app's RST, a new SYN, or a newcomer that it makes way for). A held one is taken
//     by its flow, too, when that ends.
//   - An Abandoned event follows only for a flow that was told of.
//   - A flow is dialled by a standing decision if nobody has to wait or to make way for
//     it, see beginsLocked. Otherwise it is told of when its turn comes, like all others.
type pendingTable struct {
	pace      pace
	notices   *notices
	standings *standings

	mu      sync.Mutex
	byFlow  map[uint64]*waiting
	byTuple map[tuple]*waiting
	queue   *crowd
	dials   *crowd
	stopped bool // nothing is told any more
	crowded [classes]bool
	tokens  [classes]*rate.Limiter

	// gaveWay has the flows of this machine that made way, with the sequence numbers
	// of their SYNs: the kernel will send those again, and then they come after
	// what asks for the first time. At most gaveWayLimit.
	gaveWay map[tuple]uint32

	queued  atomic.Int64 // how many are in the queue
	overrun atomic.Bool  // strangers make way for strangers there

	// How many had to make way: for others, and for their own party.
	yielded, yieldedToOwn atomic.Uint64
}

// lookAhead is how many parties of a class are looked at for one that may begin a dial
// now. At most one of a side has all that it may have.
const lookAhead = 3

// gaveWayLimit is twice what one program with 3,000 connects needs: 44 bytes each.
const gaveWayLimit = 8192

func newPendingTable(limit int, pace pace, notices *notices, standings *standings) *pendingTable {
	p := &pendingTable{
		pace:      pace,
		notices:   notices,
		standings: standings,
		byFlow:    make(map[uint64]*waiting),
		byTuple:   make(map[tuple]*waiting),
		queue:     newCrowd(limit),
		dials:     newCrowd(limit),
		gaveWay:   make(map[tuple]uint32),
	}
	for k := range classes {
		p.tokens[k] = rate.NewLimiter(pace.rate[k], pace.burst[k])
	}
	return p
}

// add puts the flow of a SYN into the queue, unless the SYN is a repetition; or into the
// dials, to be dialled by a standing decision: then it returns both. abandoned is the flow
// that the SYN ends, if Python was told of it, or 0.
func (p *pendingTable) add(flow uint64, t tuple, id stack.TransportEndpointID, packet *stack.PacketBuffer, party party, now time.Time) (begun *waiting, by *standing, abandoned uint64) {
	isn := header.TCP(packet.TransportHeader().Slice()).SequenceNumber()
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.byTuple[t]; old != nil {
		if old.isn == isn {
			return nil, nil, 0
		}
		if old.known(p) {
			abandoned = old.flow
		}
		p.removeLocked(old)
	}
	w := &waiting{flow: flow, tuple: t, id: id, packet: packet.IncRef(), isn: isn, party: party, asked: carry.ClockAt(now)}
	if old, ok := p.gaveWay[t]; ok {
		delete(p.gaveWay, t)
		if old == isn {
			w.party.class = again
		}
	}
	p.byFlow[flow] = w
	p.byTuple[t] = w
	if by = p.beginsLocked(w.party, &t, now); by != nil {
		w.standing = by
		p.toDialsLocked(w, now)
		return w, by, abandoned
	}
	p.toQueueLocked(w, now)
	return nil, nil, abandoned
}

func (p *pendingTable) toQueueLocked(w *waiting, now time.Time) {
	k := w.party.class
	if yields, rule := p.queue.yields(w.party); yields != nil {
		if k == strangers && rule != ruleParty {
			p.overrun.Store(true)
		}
		p.makeWayLocked(yields, rule, now)
	}
	w.stage = p.queue
	w.member = p.queue.enter(w.party, w, now)
	p.queued.Add(1)
	if p.queue.count[k] >= p.pace.crowdedFrom[k] {
		p.crowded[k] = true
	}
}

func (p *pendingTable) toDialsLocked(w *waiting, now time.Time) {
	w.stage = p.dials
	w.member = p.dials.enter(w.party, w, now)
}

// tell calls take with a request for each flow whose turn it is, and with the end of
// those that make way; limit events at most. It returns how many there were.
func (p *pendingTable) tell(limit int, now time.Time, take func(*events.Event)) (told int) {
	if p.queued.Load() == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ours, others := p.pace.turnHere, p.pace.turnElsewhere
	for k := range classes {
		left := &others
		if k.isHere() {
			left = &ours
		}
		for *left > 0 && told+2 <= limit {
			l, yields, rule := p.nextLocked(k, 1, now)
			if l == nil {
				break
			}
			if yields != nil {
				gone := yields.what.(*waiting)
				known := gone.known(p)
				p.makeWayLocked(yields, rule, now)
				if known {
					event := gone.tuple.event(events.Abandoned, gone.flow)
					take(&event)
					told++
				}
			}
			if p.crowded[k] {
				p.tokens[k].AllowN(now, 1)
			}
			w := p.beginLocked(l, now)
			event := w.tuple.event(events.TCPRequest, w.flow)
			take(&event)
			told++
			*left--
		}
	}
	return told
}

// ready tells whether tell would tell of a flow now; later, whether it would after a
// while, without another packet or decision.
func (p *pendingTable) ready(now time.Time) (ready, later bool) {
	if p.queued.Load() == 0 {
		return false, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false, false
	}
	for k := range classes {
		// For one token Python would be woken for each flow.
		if l, _, _ := p.nextLocked(k, p.pace.turnElsewhere, now); l != nil {
			return true, false
		}
	}
	return false, true
}

// nextLocked finds the party of a class whose turn it is, and who makes way for it. nil: none
// can begin a dial now, or there are fewer than so many tokens.
func (p *pendingTable) nextLocked(k class, tokens int, now time.Time) (*line, *member, rule) {
	if p.stopped || p.queue.count[k] == 0 {
		return nil, nil, ruleNone
	}
	if p.crowded[k] && p.tokens[k].TokensAt(now) < float64(tokens) {
		return nil, nil, ruleNone
	}
	at := p.queue.turns[k].Front()
	for range lookAhead {
		if at == nil {
			break
		}
		l := at.Value.(*line)
		yields, rule := p.dials.yields(l.oldest().what.(*waiting).party)
		if yields == nil || now.Sub(yields.since) >= p.tenure(yields) {
			return l, yields, rule
		}
		at = at.Next()
	}
	return nil, nil, ruleNone
}

func (p *pendingTable) tenure(m *member) time.Duration {
	if m.line.party.class.isHere() {
		return p.pace.tenureHere
	}
	return p.pace.tenureElsewhere
}

// beginLocked moves a flow of a party from the queue to the dials: its oldest, or under
// overload its newest, whose app still waits.
func (p *pendingTable) beginLocked(l *line, now time.Time) *waiting {
	m := l.oldest()
	if l.members.Len() > p.pace.turnHere {
		m = l.newest()
	}
	p.queue.turns[l.party.class].MoveToBack(l.turn)
	w := m.what.(*waiting)
	p.leaveLocked(w)
	p.toDialsLocked(w, now)
	return w
}

func (p *pendingTable) makeWayLocked(m *member, rule rule, now time.Time) {
	w := m.what.(*waiting)
	why, limit := w.stage.crowding(w.party, rule)
	p.notices.note(why, &w.tuple, w.party, limit, now)
	if rule == ruleParty {
		p.yieldedToOwn.Add(1)
	} else {
		p.yielded.Add(1)
	}
	p.removeLocked(w)
	if !w.party.class.isHere() {
		return
	}
	if len(p.gaveWay) >= gaveWayLimit {
		for some := range p.gaveWay { // in no order
			delete(p.gaveWay, some)
			break
		}
	}
	p.gaveWay[w.tuple] = w.isn
}

// take removes and returns the entry of a flow, nil if there is none. The
// packet is the caller's to release.
func (p *pendingTable) take(flow uint64) *waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byFlow[flow]
	if w != nil {
		p.unlinkLocked(w)
	}
	return w
}

// hold has an entry stay where it is while its app is accepted: its packet is the caller's
// from now on. ENOENT: no such flow is known to Python. EALREADY: it is held. EMFILE: full
// says so.
func (p *pendingTable) hold(flow uint64, h *heldFlow, full func(party) bool) (*waiting, *stack.PacketBuffer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byFlow[flow]
	switch {
	case w == nil || !w.known(p):
		return nil, nil, unix.ENOENT
	case w.held != nil:
		return nil, nil, unix.EALREADY
	case full(w.party):
		return nil, nil, unix.EMFILE
	}
	// Packets of the app find the endpoint now.
	delete(p.byTuple, w.tuple)
	packet := w.packet
	w.packet, w.held = nil, h
	return w, packet, nil
}

// held returns what an entry is held by, nil if it is not.
func (p *pendingTable) held(flow uint64) (h *heldFlow, waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byFlow[flow]
	if w == nil {
		return nil, false
	}
	return w.held, true
}

// answered gives the crowd of a class another token: a dial of it was answered. Not
// that of strangers, who may be made up.
func (p *pendingTable) answered(k class, now time.Time) {
	if k == strangers || p.queued.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case k == known:
		if p.crowded[known] {
			p.tokens[known].AllowN(now, -1)
		}
	case p.crowded[here]:
		p.tokens[here].AllowN(now, -1)
	case p.crowded[again]:
		p.tokens[again].AllowN(now, -1)
	}
}

// reset removes the entry that an app's RST ends and returns its flow, if Python was
// told of it, or 0.
func (p *pendingTable) reset(t tuple) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byTuple[t]
	if w == nil {
		return 0
	}
	told := w.known(p)
	p.removeLocked(w)
	if !told {
		return 0
	}
	return w.flow
}

// stop has nothing told any more.
func (p *pendingTable) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// clear removes all entries.
func (p *pendingTable) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.byFlow {
		p.removeLocked(w)
	}
}

// ours is how many flows of this machine wait.
func (p *pendingTable) ours() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	queued, _ := p.queue.sides()
	dialled, _ := p.dials.sides()
	return queued + dialled
}

func (p *pendingTable) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byFlow)
}

func (p *pendingTable) removeLocked(w *waiting) {
	if s := w.standing; s != nil && !w.told {
		s.abandoned(time.Since(w.member.since))
	}
	p.unlinkLocked(w)
	w.release()
}

func (p *pendingTable) unlinkLocked(w *waiting) {
	delete(p.byFlow, w.flow)
	if p.byTuple[w.tuple] == w {
		delete(p.byTuple, w.tuple)
	}
	if d := w.dial; d != nil {
		w.dial = nil
		d.leave()
	}
	if s := w.standing; s != nil {
		w.standing = nil
		s.ended()
	}
	p.leaveLocked(w)
}

// leaveLocked takes a flow out of its stage.
func (p *pendingTable) leaveLocked(w *waiting) {
	w.stage.leave(w.member)
	if w.stage != p.queue {
		return
	}
	p.queued.Add(-1)
	if k := w.member.line.party.class; p.queue.count[k] == 0 {
		p.crowded[k] = false
	}
	if p.queue.count[strangers] < p.queue.perSide/2 {
		p.overrun.Store(false)
	}
}

// event is one about this flow.
func (t *tuple) event(kind uint32, flow uint64) events.Event {
	return events.Event{
		Kind: kind, Flow: flow,
		Family: t.family(), Protocol: uint8(header.TCPProtocolNumber),
		Source: t.source, Destination: t.destination,
		SourcePort: t.sourcePort, DestPort: t.destinationPort,
	}
}
