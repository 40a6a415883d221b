package engine

import (
	"container/list"
	"time"
)

// class is what sort of party somebody is. It decides who comes first.
type class int

// The classes, in the order in which their flows are told.
const (
	here      class = iota // programs of this machine
	again                  // the same, in the queue: flows that have made way once and ask again
	known                  // machines that have completed a connection lately
	strangers              // all others
	classes
)

func (k class) isHere() bool { return k <= again }

// party is who shares a limit: the programs of one user in one control group, or one
// machine (IPv6: its /64).
type party struct {
	class   class
	address [16]byte // of a machine
	user    user     // of programs here
}

// user is whose programs they are; the zero value, if nobody was asked or knew.
type user struct {
	uid    uint32
	cgroup uint64
	known  bool
}

// crowd holds the flows that are at one stage on their way to being established, and
// says who has to make way for a newcomer.
//
// Rules
//   - The newcomer always gets in. Out of those of whoever has most, the
//     longest-waiting makes way.
//   - A party may have half of the places, this machine three quarters, and all other
//     machines together three quarters: each side is sure of a quarter. Of the two
//     classes of a side the one that has more makes way.
//   - Everything takes constant time.
type crowd struct {
	limit, perParty, perSide int

	lines map[party]*line
	count [classes]int
	sizes [classes][]*list.List // of *line, by how many members they have
	most  [classes]int          // members of the largest line
	turns [classes]list.List    // of *line: whose turn is next
}

// line is the members of one party.
type line struct {
	party   party
	members list.List // of *member, the longest-waiting first

	size         int           // of members, as of inSize
	inSize, turn *list.Element // in crowd.sizes and crowd.turns
}

// member is one flow in a crowd.
type member struct {
	line  *line
	place *list.Element
	since time.Time
	what  any
}

// rule is why somebody has to make way.
type rule int

const (
	ruleNone  rule = iota
	ruleParty      // the party has all that one may have
	ruleSide       // so has its side
	ruleFull       // there is no place left at all
)

func newCrowd(limit int) *crowd {
	return &crowd{
		limit: limit, perParty: max(1, limit/2), perSide: max(1, limit*3/4),
		lines: make(map[party]*line),
	}
}

// yields returns who has to make way if one of p enters, and by which rule: nil if
// there is a place. It removes nobody.
func (c *crowd) yields(p party) (*member, rule) {
	own := c.lines[p]
	if own != nil && own.members.Len() >= c.perParty {
		return own.oldest(), ruleParty
	}
	ours, others := c.sides()
	side := others
	if p.class.isHere() {
		side = ours
	}
	switch {
	case side >= c.perSide:
		return c.oldestOfTheLargest(p.class.isHere(), own), ruleSide
	case ours+others >= c.limit:
		return c.oldestOfTheLargest(ours >= others, own), ruleFull
	}
	return nil, ruleNone
}

// sides is how many are in, of this machine and of others.
func (c *crowd) sides() (ours, others int) {
	return c.count[here] + c.count[again], c.count[known] + c.count[strangers]
}

func (c *crowd) oldestOfTheLargest(isHere bool, own *line) *member {
	from, other := here, again
	if !isHere {
		from, other = known, strangers
	}
	if c.count[other] >= c.count[from] {
		from = other
	}
	// The newcomer's own come first if nobody has more.
	if own != nil && own.party.class == from && own.members.Len() == c.most[from] {
		return own.oldest()
	}
	return c.sizes[from][c.most[from]].Front().Value.(*line).oldest()
}

// enter adds one. There is a place: the caller has removed who yields.
func (c *crowd) enter(p party, what any, now time.Time) *member {
	l := c.lines[p]
	if l == nil {
		l = &line{party: p}
		l.turn = c.turns[p.class].PushBack(l)
		c.lines[p] = l
	}
	m := &member{line: l, since: now, what: what}
	m.place = l.members.PushBack(m)
	c.count[p.class]++
	c.resized(l)
	return m
}

// leave removes one.
func (c *crowd) leave(m *member) {
	l := m.line
	l.members.Remove(m.place)
	c.count[l.party.class]--
	c.resized(l)
	if l.members.Len() == 0 {
		c.turns[l.party.class].Remove(l.turn)
		delete(c.lines, l.party)
	}
}

// resized moves a line that has one member more or less to those of its new size.
func (c *crowd) resized(l *line) {
	k, old, n := l.party.class, l.size, l.members.Len()
	if old > 0 {
		c.sizes[k][old].Remove(l.inSize)
		if c.most[k] == old && c.sizes[k][old].Len() == 0 {
			c.most[k] = n // the largest has changed by one
		}
	}
	l.size = n
	if n == 0 {
		return
	}
	for len(c.sizes[k]) <= n {
		c.sizes[k] = append(c.sizes[k], list.New())
	}
	l.inSize = c.sizes[k][n].PushBack(l)
	c.most[k] = max(c.most[k], n)
}

func (l *line) oldest() *member { return l.members.Front().Value.(*member) }

func (l *line) newest() *member { return l.members.Back().Value.(*member) }
