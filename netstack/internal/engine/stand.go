package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// Stand has flows to a destination dialled by a course without a question: those of this
// machine if ours, or else those of others. It replaces the standing decision about the
// same flows. It holds for so long, or until Withdraw if that is 0. EINVAL: there is no such
// course. note is that of all flows which are dialled by it.
func (e *Engine) Stand(destination [16]byte, port uint16, six, ours bool, course uint32, request []byte, lasts time.Duration, note uint64) (number uint64, err error) {
	c := e.course(course)
	if c == nil {
		return 0, unix.EINVAL
	}
	key := standingKey{host: destination, port: port, six: six, ours: ours}
	return e.standing.stand(key, c, request, lasts, note, time.Now()), nil
}

// Withdraw ends all standing decisions. Dials that have begun go on.
func (e *Engine) Withdraw() { e.standing.withdraw() }

// Stood fills an array with what the flows of standing decisions did since the last time,
// and returns how much of it: less than all if that is everything.
func (e *Engine) Stood(into []Stood) int { return e.standing.take(into) }

// beginsLocked finds the standing decision by which a newcomer is dialled at once. nil:
// there is none, or others come before it, or it would take a place that somebody has.
func (p *pendingTable) beginsLocked(of party, t *tuple, now time.Time) *standing {
	k := of.class
	switch {
	case p.queue.count[k] > 0, p.pace.crowdedFrom[k] <= 1:
		return nil
	case (k == again || k == strangers) && p.queue.count[k-1] > 0:
		return nil
	case k == strangers && p.tokens[k].TokensAt(now) < 1:
		// Nothing waits for the engine, so that they would never be a crowd. Most
		// are made up, if there are many.
		return nil
	}
	if yields, _ := p.dials.yields(of); yields != nil {
		return nil
	}
	d := p.standings.begin(standingKeyOf(t, k.isHere()), now)
	if d != nil && k == strangers {
		p.tokens[k].AllowN(now, 1)
	}
	return d
}
