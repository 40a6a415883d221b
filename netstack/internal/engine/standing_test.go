package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"nanotun/netstack/internal/events"
)

// book is a table of standing decisions, and what it has said to Python.
type book struct {
	*standings
	t      *testing.T
	posted chan events.Event
	stood  []Stood
}

func newBook(t *testing.T) *book {
	t.Helper()
	b := &book{t: t, posted: make(chan events.Event, 100_000)}
	b.standings = newStandings(func(event events.Event) { b.posted <- event })
	b.stoodDelay = time.Hour
	t.Cleanup(b.close)
	return b
}

// destinationKey is of the n-th destination.
func destinationKey(n int) standingKey {
	return standingKey{host: [16]byte{203, 0, byte(n >> 8), byte(n)}, port: 443, ours: true}
}

// over returns the decisions that have ended since the last call, in order.
func (b *book) over() (numbers []uint64) {
	for len(b.posted) > 0 {
		if event := <-b.posted; event.Kind == events.StandingEnded {
			numbers = append(numbers, event.Flow)
		}
	}
	return numbers
}

func (b *book) expectOver(what string, want ...uint64) {
	b.t.Helper()
	if got := b.over(); !slices.Equal(got, want) {
		b.t.Errorf("%s: %v have ended, not %v", what, got, want)
	}
}

// counts takes all that was counted.
func (b *book) counts() (all []Stood) {
	some := make([]Stood, 3)
	for n := len(some); n == len(some); {
		n = b.take(some)
		all = append(all, some[:n]...)
	}
	return all
}

var longAgo = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// A decision is for one address, port and family, and for this machine's flows or for those
// of others.
func TestStandingKey(t *testing.T) {
	b := newBook(t)
	key := destinationKey(1)
	number := b.stand(key, nil, nil, 0, 0, longAgo)
	if d := b.begin(key, longAgo); d == nil || d.number != number {
		t.Errorf("found %v", d)
	}
	for _, other := range []standingKey{
		{host: key.host, port: 80, ours: true},
		{host: key.host, port: key.port},
		{host: key.host, port: key.port, ours: true, six: true},
		destinationKey(2),
	} {
		if d := b.begin(other, longAgo); d != nil {
			t.Errorf("%v has a decision", other)
		}
	}
}

// What the flows of a decision did is told once, together, and decisions that did nothing
// are not told of.
func TestStandingCounts(t *testing.T) {
	b := newBook(t)
	busy, idle := b.stand(destinationKey(1), nil, nil, 0, 0, longAgo), b.stand(destinationKey(2), nil, nil, 0, 0, longAgo)
	var begun []*standing
	for range 3 {
		begun = append(begun, b.begin(destinationKey(1), longAgo))
	}
	begun[0].joined(200*time.Microsecond, 0)
	begun[1].joined(300*time.Microsecond, 2)
	want := []Stood{{Number: busy, Decided: 3, Joined: 2, Microseconds: 500, Address: 2}}
	if got := b.counts(); !slices.Equal(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
	if got := b.counts(); got != nil {
		t.Errorf("told twice: %+v", got)
	}
	begun[2].joined(0, 1)
	begun[1].abandoned(3 * time.Second)
	begun[1].abandoned(2 * time.Second)
	b.begin(destinationKey(2), longAgo)
	want = []Stood{{Number: busy, Joined: 1, Address: 1, Abandoned: 3_000_000}, {Number: idle, Decided: 1}}
	if got := b.counts(); !slices.Equal(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
}

// However a decision comes to be over, no flow begins by it any more, and its end is told
// once: at once if it has no flows, and else with the last of them, whose record says so.
func TestStandingEnds(t *testing.T) {
	key := destinationKey(1)
	for name, end := range map[string]func(b *book){
		"withdrawn": func(b *book) { b.withdraw() },
		"replaced":  func(b *book) { b.stand(key, nil, nil, 0, 0, longAgo) },
		"evicted":   func(b *book) { b.limit = 1; b.stand(destinationKey(2), nil, nil, 0, 0, longAgo) },
		"expired":   func(b *book) { b.begin(key, longAgo.Add(time.Minute)) },
		"swept":     func(b *book) { b.expire() },
	} {
		t.Run(name, func(t *testing.T) {
			for flows := range 4 {
				b := newBook(t)
				number := b.stand(key, nil, nil, time.Minute, 0, longAgo)
				var begun []*standing
				for range flows {
					begun = append(begun, b.begin(key, longAgo))
				}
				if flows > 2 {
					begun[2].ended() // while it stands
					begun = begun[:2]
				}
				b.expectOver("before")
				end(b)
				if d := b.begin(key, longAgo); d != nil && d.number == number {
					t.Error("a flow begins by it")
				}
				for i, d := range begun {
					b.expectOver("while flows are left")
					if i == 0 && len(begun) > 1 {
						b.counts()
					}
					d.joined(0, 0)
					d.ended()
				}
				b.expectOver("at the end", number)
				b.withdraw()
				if slices.Contains(b.over(), number) {
					t.Error("it ends twice")
				}
				last := slices.DeleteFunc(b.counts(), func(s Stood) bool { return s.Number != number })
				if flows > 0 && (len(last) != 1 || last[0].Over != 1) || flows == 0 && len(last) > 0 {
					t.Errorf("%d flows: last record %+v", flows, last)
				}
			}
		})
	}
}

// With as many decisions as there may be, the one that was used longest ago makes room.
func TestStandingLimit(t *testing.T) {
	b := newBook(t)
	b.limit = 3
	var numbers []uint64
	for n := range 3 {
		numbers = append(numbers, b.stand(destinationKey(n), nil, nil, 0, 0, longAgo))
	}
	b.begin(destinationKey(0), longAgo).ended()
	b.stand(destinationKey(3), nil, nil, 0, 0, longAgo)
	b.expectOver("for the fourth", numbers[1])
	b.stand(destinationKey(2), nil, nil, 0, 0, longAgo)
	b.expectOver("for one of the same destination", numbers[2])
	b.stand(destinationKey(4), nil, nil, 0, 0, longAgo)
	b.expectOver("for the fifth", numbers[0])
	if n := b.len(); n != 3 {
		t.Errorf("%d stand", n)
	}
}

// The end of decisions that have expired is told though no flow asks for them, and the
// timer goes on to those that expire later.
func TestStandingExpiry(t *testing.T) {
	b := newBook(t)
	b.expiryDelay = 10 * time.Millisecond
	for n, lasts := range []time.Duration{200 * time.Millisecond, time.Millisecond, 0, 50 * time.Millisecond, time.Hour} {
		b.stand(destinationKey(n), nil, nil, lasts, 0, time.Now())
	}
	for _, want := range []uint64{2, 4, 1} {
		select {
		case event := <-b.posted:
			if event.Kind != events.StandingEnded || event.Flow != want {
				t.Errorf("%+v, not the end of %d", event, want)
			}
		case <-time.After(patience):
			t.Fatalf("%d does not end", want)
		}
	}
	if n := b.len(); n != 2 {
		t.Errorf("%d stand", n)
	}
}

// Python is told that something was counted once for everything until it looks, and is not
// if it looks before.
func TestStoodIsTold(t *testing.T) {
	b := newBook(t)
	b.stoodDelay = 20 * time.Millisecond
	told := func() {
		t.Helper()
		select {
		case event := <-b.posted:
			if event.Kind != events.Stood {
				t.Errorf("%+v", event)
			}
		case <-time.After(patience):
			t.Fatal("it is not told")
		}
	}
	b.stand(destinationKey(1), nil, nil, 0, 0, longAgo)
	for range 5 {
		b.begin(destinationKey(1), longAgo)
	}
	told()
	if got := b.counts(); len(got) != 1 || got[0].Decided != 5 {
		t.Errorf("%+v", got)
	}
	b.begin(destinationKey(1), longAgo)
	b.counts() // it will not be told of
	eventually(t, "the timer to find nothing", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.telling == nil
	})
	if len(b.posted) > 0 {
		t.Errorf("told of nothing: %+v", <-b.posted)
	}
	b.begin(destinationKey(1), longAgo)
	told()
}

// After the end of the engine no timer goes off.
func TestStandingAfterClose(t *testing.T) {
	b := newBook(t)
	b.stoodDelay, b.expiryDelay = 0, 0
	b.close()
	b.stand(destinationKey(1), nil, nil, time.Nanosecond, 0, longAgo)
	b.begin(destinationKey(1), longAgo)
	if b.telling != nil || b.expiry != nil {
		t.Error("a timer runs")
	}
}

// In whatever order decisions are made, used and ended, each one's flows are counted
// exactly, and its end is told once, after all that it counted.
func TestStandingAgainstAModel(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 17))
	b := newBook(t)
	b.limit = 6
	type record struct {
		decided, joined uint64 // less what was told
		flows           int
		over            bool
	}
	model := make(map[uint64]*record)
	latest := make(map[standingKey]uint64)
	var flows []*standing
	ended := make(map[uint64]int)
	look := func() {
		for len(b.posted) > 0 {
			if event := <-b.posted; event.Kind == events.StandingEnded {
				ended[event.Flow]++
				if r := model[event.Flow]; r.flows > 0 {
					t.Fatalf("%d ends with %d flows", event.Flow, r.flows)
				}
			}
		}
	}
	now := longAgo
	for range 20_000 {
		now = now.Add(time.Second)
		key := destinationKey(random.IntN(10))
		switch random.IntN(12) {
		case 0, 1:
			number := b.stand(key, nil, nil, time.Duration(random.IntN(3))*30*time.Second, 0, now)
			model[number], latest[key] = &record{}, number
		case 2, 3, 4, 5:
			if d := b.begin(key, now); d != nil {
				if d.number != latest[key] {
					t.Fatalf("a flow begins by %d, not by %d", d.number, latest[key])
				}
				model[d.number].decided++
				model[d.number].flows++
				flows = append(flows, d)
			}
		case 6:
			if len(flows) > 0 {
				d := flows[random.IntN(len(flows))]
				d.joined(0, 0)
				model[d.number].joined++
			}
		case 7, 8, 9, 10:
			if len(flows) > 0 {
				i := random.IntN(len(flows))
				d := flows[i]
				flows = slices.Delete(flows, i, i+1)
				model[d.number].flows--
				d.ended()
			}
		case 11:
			if random.IntN(20) == 0 {
				b.withdraw()
			}
			some := make([]Stood, random.IntN(4))
			for _, s := range some[:b.take(some)] {
				r := model[s.Number]
				if r.over {
					t.Fatalf("%+v after the last record", s)
				}
				r.decided -= s.Decided
				r.joined -= s.Joined
				r.over = s.Over == 1
			}
		}
		look()
	}
	for _, d := range flows {
		model[d.number].flows--
		d.ended()
	}
	b.withdraw()
	look()
	for _, s := range b.counts() {
		model[s.Number].decided -= s.Decided
		model[s.Number].joined -= s.Joined
	}
	for number, r := range model {
		if r.decided != 0 || r.joined != 0 || ended[number] != 1 {
			t.Errorf("%d: %+v, its end was told %d times", number, *r, ended[number])
		}
	}
}
