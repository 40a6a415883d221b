package datagram

import (
	"container/list"
	"encoding/binary"

	"nanotun/netstack/internal/link"
)

// A shared association carries DNS queries of many sources, because a leg for each
// would cost the proxy a connection. Replies are told apart by their sender and the
// DNS id. Queries are not changed; two queries whose replies could not be told
// apart do not share an association. What is no query does not either: what its
// replies begin with is not known.

const (
	// queryLife is how long a query waits for its reply, in milliseconds: no
	// resolver waits longer.
	queryLife = 10_000

	// answeredLife is how long an answered query keeps its id from others, in
	// milliseconds: a forged answer may be faster than the true one.
	answeredLife = 200

	// queriesLimit bounds the queries that one association waits for.
	queriesLimit = 4096

	// dnsHeader is the size of a DNS header in bytes (RFC 1035, section 4.1.1).
	dnsHeader = 12
)

type queryKey struct {
	peer link.End
	id   uint16
}

type query struct {
	key      queryKey
	source   link.End
	asked    int64
	answered int64 // 0: not yet
	place    *list.Element
}

// over tells whether the query's id is free for others.
func (q *query) over(now int64) bool {
	return now-q.asked > queryLife || q.answered != 0 && now-q.answered > answeredLife
}

// queries are those that a shared association waits for. The zero value is ready.
type queries struct {
	byKey map[queryKey]*query
	order list.List // the oldest first
}

// isQuery tells whether a payload begins like a query with one question: only its
// reply can be told by the id.
func isQuery(p []byte) bool {
	return len(p) >= dnsHeader && p[2]&0xf8 == 0 && binary.BigEndian.Uint16(p[4:]) == 1
}

func queryOf(f *flow, payload []byte) (queryKey, bool) {
	if !isQuery(payload) {
		return queryKey{}, false
	}
	return queryKey{f.to, binary.BigEndian.Uint16(payload)}, true
}

// isFree tells whether a reply to a payload of the flow could be told apart from those
// that the association waits for. Called with mu held.
func (t *Table) isFree(a *Association, f *flow, payload []byte) bool {
	k, ok := queryOf(f, payload)
	if !ok {
		return false
	}
	q := a.queries.byKey[k]
	return q == nil || q.source == f.key.source || q.over(t.now.Load())
}

// takes tells whether a shared association can carry all datagrams of a payload.
// Called with mu held.
func (t *Table) takes(f *flow, payload []byte, segment int) bool {
	all := true
	each(payload, segment, func(p []byte) { all = all && t.isFree(f.association, f, p) })
	return all
}

// expect notes a query, which is free. Called with mu held.
func (t *Table) expect(f *flow, payload []byte) {
	a := f.association
	k, ok := queryOf(f, payload)
	if !ok {
		return
	}
	all, now := &a.queries, t.now.Load()
	if all.byKey == nil {
		all.byKey = make(map[queryKey]*query)
		all.order.Init()
	}
	if q := all.byKey[k]; q != nil {
		all.remove(q)
	}
	for e := all.order.Front(); e != nil; e = all.order.Front() {
		oldest := e.Value.(*query)
		if now-oldest.asked <= queryLife && len(all.byKey) < queriesLimit {
			break
		}
		all.remove(oldest)
	}
	q := &query{key: k, source: f.key.source, asked: now}
	q.place = all.order.PushBack(q)
	all.byKey[k] = q
}

func (all *queries) remove(q *query) {
	all.order.Remove(q.place)
	delete(all.byKey, q.key)
}

// asker finds the flow that asked for a reply. The reply stays expected, because a
// forged one that comes first must not keep the true one away. Called with mu held.
func (t *Table) asker(a *Association, peer *link.End, payload []byte) (source link.End, ok bool) {
	if len(payload) < dnsHeader {
		return source, false
	}
	q, now := a.queries.byKey[queryKey{*peer, binary.BigEndian.Uint16(payload)}], t.now.Load()
	if q == nil || now-q.asked > queryLife {
		return source, false
	}
	if q.answered == 0 {
		q.answered = max(now, 1)
	}
	return q.source, true
}
