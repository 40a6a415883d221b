package listing

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

func walk(l *List, table map[uint64]State) {
	var mu sync.Mutex
	byID := make(map[uint64]*Flow, len(table))
	for id, state := range table {
		byID[id] = &Flow{ID: id, Note: id + 1, State: state}
	}
	Walk(l, &mu, byID, func(f *Flow) uint64 { return f.ID }, func(f *Flow, into *Flow) bool {
		*into = *f
		return f.State != 0
	})
}

func idsOf(flows []Flow) (ids []uint64) {
	for _, f := range flows {
		ids = append(ids, f.ID)
	}
	return ids
}

// All flows are listed in the order of their ids, whatever the size of the tables.
func TestSorted(t *testing.T) {
	for _, count := range []int{0, 1, lot - 1, lot, lot + 1, 5000} {
		random := rand.New(rand.NewPCG(uint64(count), 1))
		tables := []map[uint64]State{{}, {}, {}}
		var want []uint64
		for id := uint64(1); len(want) < count; id += 1 + random.Uint64N(3) {
			tables[random.IntN(len(tables))][id] = Open
			want = append(want, id)
		}
		l := New(0)
		for _, table := range tables {
			walk(l, table)
		}
		sorted := l.Sorted()
		if !slices.Equal(idsOf(sorted), want) {
			t.Errorf("%d flows: %d were listed, or not in order", count, len(sorted))
		}
		for _, f := range sorted {
			if f.Note != f.ID+1 {
				t.Errorf("%+v", f)
			}
		}
	}
}

// A flow that is found in two tables is listed once, as far as it has got.
func TestFoundTwice(t *testing.T) {
	l := New(0)
	walk(l, map[uint64]State{1: Dialling, 2: Waiting, 3: Open})
	walk(l, map[uint64]State{1: Open, 4: HalfClosed, 3: HalfClosed})
	flows := l.Sorted()
	if !slices.Equal(idsOf(flows), []uint64{1, 2, 3, 4}) {
		t.Fatalf("%+v", flows)
	}
	for i, want := range []State{Open, Waiting, HalfClosed, HalfClosed} {
		if flows[i].State != want {
			t.Errorf("%+v", flows[i])
		}
	}
}

// What is not to be listed, or comes before, is left out.
func TestLeftOut(t *testing.T) {
	l := New(2)
	walk(l, map[uint64]State{1: Open, 2: Open, 3: 0, 4: Open})
	if ids := idsOf(l.Sorted()); !slices.Equal(ids, []uint64{4}) {
		t.Error(ids)
	}
}

// lister makes lists of so many flows, and counts them.
type lister struct{ count, lists int }

func (l *lister) page(p *Pages, after uint64, limit int) []uint64 {
	return idsOf(p.Page(after, limit, func() (flows []Flow) {
		l.lists++
		for id := after + 1; id <= uint64(l.count); id++ {
			flows = append(flows, Flow{ID: id})
		}
		return flows
	}))
}

// The pages of a listing are, one after the other, all flows in order, and one list serves
// for all of them.
func TestPages(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 9, 10, 11, 1000} {
		var p Pages
		l := lister{count: 10}
		var got []uint64
		for after := uint64(0); ; after = got[len(got)-1] {
			page := l.page(&p, after, limit)
			got = append(got, page...)
			if len(page) < limit {
				break
			}
		}
		if !slices.Equal(got, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
			t.Errorf("in pages of %d: %d", limit, got)
		}
		// Only what follows a full page at the end takes another list.
		if l.lists > 2 || 10%limit != 0 && l.lists > 1 {
			t.Errorf("in pages of %d: %d lists", limit, l.lists)
		}
		p.Close()
	}
}

// A page that does not follow the last one, or comes too late, is of a new list.
func TestNewList(t *testing.T) {
	var p Pages
	defer p.Close()
	l := lister{count: 10}
	for _, step := range []struct {
		after uint64
		lists int
	}{{0, 1}, {2, 1}, {0, 2}, {4, 3}, {6, 3}, {6, 4}} {
		if got := l.page(&p, step.after, 2); !slices.Equal(got, []uint64{step.after + 1, step.after + 2}) || l.lists != step.lists {
			t.Errorf("after %d: %d, of list %d", step.after, got, l.lists)
		}
	}
	p.expire(0)
	isThere := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.rest != nil
	}
	for end := time.Now().Add(time.Minute); isThere(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it is never given up")
		}
	}
	if ids := l.page(&p, 0, 0); len(ids) != 0 || l.lists != 4 {
		t.Errorf("%d, of list %d", ids, l.lists)
	}
}

// What stays in a table while others come and go is visited exactly once.
func TestChanges(t *testing.T) {
	const stays = 3 * lot
	var mu sync.Mutex
	table := make(map[uint64]*Flow)
	for id := range uint64(stays) {
		table[id] = &Flow{ID: id}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for id := uint64(stays); ; id++ {
			select {
			case <-stop:
				return
			default:
			}
			mu.Lock()
			table[id] = &Flow{ID: id}
			delete(table, max(stays, id-10000))
			mu.Unlock()
		}
	}()
	for range 50 {
		seen := make(map[uint64]int)
		Each(&mu, table, func(f *Flow) {
			if f.ID < stays {
				seen[f.ID]++
			}
		}, func() {})
		for id := range uint64(stays) {
			if seen[id] != 1 {
				t.Errorf("%d was visited %d times", id, seen[id])
			}
		}
	}
	close(stop)
	<-done
}
