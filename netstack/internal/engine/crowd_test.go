package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func machine(n int, k class) party { return party{class: k, address: [16]byte{byte(n), byte(n >> 8)}} }

func program(uid uint32) party { return party{class: here, user: user{uid: uid, known: true}} }

// admit lets one in, after whoever has to make way.
func (c *crowd) admit(p party, what any, now time.Time) (yielded *member) {
	yielded, _ = c.yields(p)
	if yielded != nil {
		c.leave(yielded)
	}
	c.enter(p, what, now)
	return yielded
}

// With every place taken, the longest-waiting of whoever has most makes way: of the
// newcomer's own party, if nobody has more.
func TestOldestOfTheLargestYields(t *testing.T) {
	c := newCrowd(16)
	var now time.Time
	for i, p := range []party{program(1), program(2), program(2), program(2), program(3)} {
		c.enter(p, i, now)
	}
	for i := range 11 {
		c.enter(machine(i%5, strangers), 100+i, now)
	}
	// Machine 0 has three, the others two each.
	for i, want := range []any{100, 101, 102, 103} {
		m, rule := c.yields(machine(20+i, strangers))
		if rule != ruleFull || m.what != want {
			t.Errorf("newcomer %d: %v makes way by rule %d", i, m.what, rule)
		}
		c.leave(m)
		c.enter(machine(20+i, strangers), 200+i, now)
	}
	if m, _ := c.yields(machine(4, strangers)); m.what != 104 {
		t.Errorf("for one of its own %v makes way", m.what)
	}
}

// A party has half of the places at most, and its own longest-waiting makes way
// then, though there is room for others.
func TestHalfForOneParty(t *testing.T) {
	c := newCrowd(8)
	for i := range 4 {
		if m := c.admit(program(1), i, time.Time{}); m != nil {
			t.Errorf("%d made way for %d", m.what, i)
		}
	}
	m, rule := c.yields(program(1))
	if rule != ruleParty || m.what != 0 {
		t.Errorf("%v by rule %d", m.what, rule)
	}
	if m, _ := c.yields(program(2)); m != nil {
		t.Errorf("%v makes way for another party", m.what)
	}
}

// However many ask, each side keeps a quarter of the places for itself.
func TestEachSideIsSureOfAQuarter(t *testing.T) {
	for _, flooding := range []class{here, known, strangers} {
		c := newCrowd(64)
		crowding := func(i int) party {
			if flooding == here {
				return program(uint32(i))
			}
			return machine(i, flooding)
		}
		guest := func(i int) party {
			if flooding == here {
				return machine(i, known)
			}
			return program(uint32(i))
		}
		for i := range 1000 {
			c.admit(crowding(i%300), i, time.Time{})
		}
		for i := range 16 {
			if m, _ := c.yields(guest(i)); m != nil {
				t.Errorf("class %d: somebody makes way for guest %d", flooding, i)
			}
			c.enter(guest(i), i, time.Time{})
		}
		for i := range 1000 {
			c.admit(crowding(i%300), i, time.Time{})
		}
		for i := range 16 {
			if c.lines[guest(i)] == nil {
				t.Errorf("class %d: guest %d had to make way", flooding, i)
			}
		}
	}
}

// Known machines keep half of what there is for other machines, whatever strangers do.
func TestStrangersYieldBeforeKnown(t *testing.T) {
	c := newCrowd(64)
	for i := range 20 {
		c.admit(machine(1, known), i, time.Time{})
	}
	for i := range 1000 {
		c.admit(machine(i, strangers), i, time.Time{})
	}
	if n := c.lines[machine(1, known)].members.Len(); n != 20 {
		t.Errorf("%d of the known machine's 20 are left", n)
	}
}

// The crowd's answers are those of a slow one that looks at all members each time.
func TestCrowdAgainstAModel(t *testing.T) {
	const limit = 40
	random := rand.New(rand.NewPCG(1, 2))
	c := newCrowd(limit)
	var members []*member // by age
	partyOf := func() party {
		switch random.IntN(4) {
		case 0:
			return program(uint32(random.IntN(4)))
		case 3:
			p := program(uint32(random.IntN(4)))
			p.class = again
			return p
		case 1:
			return machine(random.IntN(5), known)
		}
		return machine(random.IntN(60), strangers)
	}
	for step := range 100_000 {
		if len(members) > 0 && random.IntN(3) == 0 {
			i := random.IntN(len(members))
			c.leave(members[i])
			members = slices.Delete(members, i, i+1)
			continue
		}
		p := partyOf()
		size := make(map[party]int)
		var count, most [classes]int
		for _, m := range members {
			size[m.line.party]++
			count[m.line.party.class]++
		}
		for p, n := range size {
			most[p.class] = max(most[p.class], n)
		}
		if count != c.count || most != c.most {
			t.Fatalf("step %d: count %v and most %v, not %v and %v", step, c.count, c.most, count, most)
		}
		ours, others := count[here]+count[again], count[known]+count[strangers]
		side := pick(p.class.isHere(), ours, others)
		m, rule := c.yields(p)
		switch {
		case size[p] >= limit/2:
			if rule != ruleParty || m.line.party != p {
				t.Fatalf("step %d: rule %d", step, rule)
			}
		case side >= limit*3/4:
			if rule != ruleSide || m.line.party.class.isHere() != p.class.isHere() || m.line.members.Len() != most[m.line.party.class] {
				t.Fatalf("step %d: rule %d", step, rule)
			}
		case len(members) >= limit:
			if rule != ruleFull || m.line.party.class.isHere() != (ours >= others) || m.line.members.Len() != most[m.line.party.class] {
				t.Fatalf("step %d: rule %d", step, rule)
			}
		case m != nil:
			t.Fatalf("step %d: somebody makes way though there is room", step)
		}
		if m != nil {
			if first := slices.IndexFunc(members, func(other *member) bool { return other.line == m.line }); members[first] != m {
				t.Fatalf("step %d: not the longest-waiting of its party", step)
			}
			members = slices.DeleteFunc(members, func(other *member) bool { return other == m })
			c.leave(m)
		}
		members = append(members, c.enter(p, step, time.Time{}))
	}
}
