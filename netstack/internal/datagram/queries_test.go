package datagram

import (
	"testing"
)

// asking is a table with a shared association, at a time that the test sets.
type asking struct {
	*Table
	a *Association
}

func newAsking() asking {
	t := &Table{flows: map[key]*flow{}}
	return asking{t, &Association{shared: true, table: t}}
}

func (a asking) flow(source, destination string) *flow {
	return &flow{key: key{end(source), end(destination)}, to: end(destination), association: a.a}
}

func dns(id uint16) []byte { return []byte{byte(id >> 8), byte(id), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0} }

// ask notes a query if it can be told apart from others.
func (a asking) ask(f *flow, payload []byte) bool {
	if !a.takes(f, payload, 0) {
		return false
	}
	a.expect(f, payload)
	return true
}

// who tells who asked, by port; 0 is nobody.
func (a asking) who(peer string, payload []byte) uint16 {
	e := end(peer)
	source, ok := a.asker(a.a, &e, payload)
	if !ok {
		return 0
	}
	return source.Port
}

// A reply belongs to who asked its sender with its id, and stays so.
func TestAsker(t *testing.T) {
	a := newAsking()
	one, two := a.flow("198.18.0.2:1", "203.0.113.7:53"), a.flow("198.18.0.2:2", "203.0.113.7:53")
	other := a.flow("198.18.0.2:3", "203.0.113.8:53")
	if !a.ask(one, dns(7)) || !a.ask(two, dns(8)) || !a.ask(other, dns(7)) || !a.ask(one, dns(9)) {
		t.Fatal("not taken")
	}
	for range 3 {
		for _, c := range []struct {
			peer string
			id   uint16
			want uint16
		}{
			{"203.0.113.7:53", 7, 1}, {"203.0.113.7:53", 8, 2}, {"203.0.113.7:53", 9, 1}, {"203.0.113.8:53", 7, 3},
			{"203.0.113.7:53", 0x0700, 0}, {"203.0.113.8:53", 8, 0}, {"203.0.113.7:54", 7, 0}, {"203.0.113.9:53", 7, 0},
		} {
			if got := a.who(c.peer, dns(c.id)); got != c.want {
				t.Errorf("%s, id %d: %d, not %d", c.peer, c.id, got, c.want)
			}
		}
	}
	for size := range dnsHeader {
		before := len(a.a.queries.byKey)
		if a.who("203.0.113.7:53", dns(7)[:size]) != 0 || a.ask(one, dns(7)[:size]) || len(a.a.queries.byKey) != before {
			t.Errorf("%d bytes are no DNS header", size)
		}
	}
}

// What does not begin like a query with one question is not taken.
func TestIsQuery(t *testing.T) {
	a := newAsking()
	one := a.flow("198.18.0.2:1", "203.0.113.7:53")
	update, answer, none, two := dns(1), dns(2), dns(3), dns(4)
	update[2], answer[2], none[5], two[5] = 0x28, 0x80, 0, 2
	wireguard := append([]byte{1, 0, 0, 0}, make([]byte, 144)...)
	for _, p := range [][]byte{update, answer, none, two, wireguard, {}} {
		if a.ask(one, p) || len(a.a.queries.byKey) != 0 {
			t.Errorf("% x is taken", p)
		}
	}
	recursive := dns(5)
	recursive[2] = 1
	if !a.ask(one, recursive) || !a.ask(one, append(dns(6), "more"...)) {
		t.Error("a query is not taken")
	}
}

// Another source's query of the same id to the same server is not taken, until the
// first has lived; the same source's is, and lives from then on.
func TestExpectTwoAlike(t *testing.T) {
	a := newAsking()
	one, two := a.flow("198.18.0.2:1", "203.0.113.7:53"), a.flow("198.18.0.2:2", "203.0.113.7:53")
	a.ask(one, dns(7))
	if a.ask(two, dns(7)) || a.isFree(a.a, two, dns(7)) {
		t.Error("two alike")
	}
	a.now.Store(queryLife / 2)
	if !a.ask(one, dns(7)) {
		t.Error("the same source may ask again")
	}
	a.now.Store(queryLife + queryLife/2)
	if a.ask(two, dns(7)) || a.who("203.0.113.7:53", dns(7)) != 1 {
		t.Error("it lives from the second time on")
	}
	a.now.Add(1)
	if a.who("203.0.113.7:53", dns(7)) != 0 {
		t.Error("it lives for ever")
	}
	if !a.ask(two, dns(7)) || a.who("203.0.113.7:53", dns(7)) != 2 {
		t.Error("the id is not free again")
	}
	if n := len(a.a.queries.byKey); n != 1 || a.a.queries.order.Len() != 1 {
		t.Errorf("%d are kept", n)
	}
}

// An answered query's id is free for others soon, and its reply may come twice
// until one of them takes it.
func TestAnsweredQuery(t *testing.T) {
	a := newAsking()
	one, two := a.flow("198.18.0.2:1", "203.0.113.7:53"), a.flow("198.18.0.2:2", "203.0.113.7:53")
	a.ask(one, dns(7))
	a.now.Store(50)
	if a.who("203.0.113.7:53", dns(7)) != 1 || a.ask(two, dns(7)) {
		t.Error("free at once")
	}
	a.now.Store(51 + answeredLife)
	if a.who("203.0.113.7:53", dns(7)) != 1 {
		t.Error("a second reply is nobody's")
	}
	if !a.ask(two, dns(7)) || a.who("203.0.113.7:53", dns(7)) != 2 {
		t.Error("not free in the end")
	}
}

// Of datagrams that came together all can be told apart, or none is taken.
func TestTakesTogether(t *testing.T) {
	a := newAsking()
	one, two := a.flow("198.18.0.2:1", "203.0.113.7:53"), a.flow("198.18.0.2:2", "203.0.113.7:53")
	a.ask(one, dns(7))
	together := append(dns(6), dns(7)...)
	if a.takes(two, together, dnsHeader) || !a.takes(one, together, dnsHeader) {
		t.Error("the second of two is not looked at")
	}
}

// What an association waits for is bounded: the oldest go, and what has lived goes
// without being asked for.
func TestQueriesAreBounded(t *testing.T) {
	a := newAsking()
	peers := []string{"203.0.113.7:53", "203.0.113.8:53", "203.0.113.9:53"}
	last := 0
	for i := range 3 * queriesLimit {
		if !a.ask(a.flow("198.18.0.2:1", peers[i%3]), dns(uint16(i))) {
			t.Fatalf("query %d was not taken", i)
		}
		if n := len(a.a.queries.byKey); n > queriesLimit || n != a.a.queries.order.Len() {
			t.Fatalf("%d are kept", n)
		}
		last = i
	}
	for i := range 3 * queriesLimit {
		want := uint16(0)
		if i > last-queriesLimit {
			want = 1
		}
		if got := a.who(peers[i%3], dns(uint16(i))); got != want {
			t.Fatalf("query %d of %d: %d, not %d", i, last, got, want)
		}
	}
	a.now.Store(2*queryLife + 1)
	a.ask(a.flow("198.18.0.2:1", peers[0]), dns(1))
	if n := len(a.a.queries.byKey); n != 1 {
		t.Errorf("%d are kept of those that have lived", n)
	}
	a.a.queries = queries{} // as an association that has ended
	if a.who(peers[0], dns(1)) != 0 || !a.ask(a.flow("198.18.0.2:1", peers[0]), dns(1)) {
		t.Error("the zero value is not ready")
	}
}

// canBePeer refuses what no packet may come from.
func TestCanBePeer(t *testing.T) {
	table := &Table{config: Config{Gateway4: end("198.18.0.1:0").Host, Gateway6: end("[fdfe::1]:0").Host}}
	for address, want := range map[string]bool{
		"203.0.113.7:1": true, "198.18.0.2:1": true, "10.0.0.1:1": true, "126.255.255.255:1": true, "128.0.0.1:1": true, "223.255.255.255:1": true,
		"0.0.0.0:1": false, "0.1.2.3:1": false, "127.0.0.1:1": false, "127.9.9.9:1": false, "224.0.0.1:1": false, "240.0.0.1:1": false, "255.255.255.255:1": false,
		"198.18.0.1:1": false, "[fdfe::1]:1": false,
		"[2001:db8::7]:1": true, "[fe80::1]:1": true, "[::2]:1": true, "[fdfe::2]:1": true, "[0:0:0:1::]:1": true,
		"[::]:1": false, "[::1]:1": false, "[ff02::1]:1": false, "[ff00::]:1": false,
	} {
		e := end(address)
		if got := table.canBePeer(&e); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}

// each cuts a payload as the kernel would: the last may be shorter, and nothing is
// one empty datagram.
func TestEach(t *testing.T) {
	for _, c := range []struct {
		size, segment int
		want          []int
	}{
		{0, 0, []int{0}}, {0, 5, []int{0}}, {5, 0, []int{5}}, {5, 5, []int{5}}, {5, 9, []int{5}}, {5, -1, []int{5}},
		{6, 5, []int{5, 1}}, {10, 5, []int{5, 5}}, {3, 1, []int{1, 1, 1}},
	} {
		var got []int
		each(make([]byte, c.size), c.segment, func(p []byte) { got = append(got, len(p)) })
		if len(got) != len(c.want) {
			t.Errorf("%+v: %v", c, got)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%+v: %v", c, got)
			}
		}
	}
}

// A peer that the app knows by another address comes as that, unless the app talks
// to it by its own as well; how many are known is bounded.
func TestKnownAs(t *testing.T) {
	a := newAsking()
	source, other := end("198.18.0.2:1"), end("198.18.0.2:2")
	peer, known, six := end("203.0.113.7:443"), end("198.19.0.9:443"), end("[fdfe::9]:443")
	if got := a.knownAs(a.a, &peer, &source); got != peer {
		t.Errorf("without an alias: %+v", got)
	}
	a.a.alias(peer, known)
	if got := a.knownAs(a.a, &peer, &source); got != known {
		t.Errorf("with an alias: %+v", got)
	}
	a.flows[key{source, peer}] = &flow{}
	if a.knownAs(a.a, &peer, &source) != peer || a.knownAs(a.a, &peer, &other) != known {
		t.Error("the app talks to the peer itself")
	}
	if a.a.alias(peer, six); a.knownAs(a.a, &peer, &other) != six {
		t.Error("the newest counts")
	}
	for i := range 3 * aliasLimit {
		peer.Host[2], peer.Host[3] = byte(i>>8), byte(i)
		if a.a.alias(peer, known); len(a.a.aliases) > aliasLimit || a.knownAs(a.a, &peer, &other) != known {
			t.Fatalf("alias %d of %d", i, len(a.a.aliases))
		}
	}
}
