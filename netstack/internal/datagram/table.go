// Package datagram carries UDP: between apps, whose packets it takes whole and
// writes whole, and legs, which are sockets towards the outside.
//
// Rules
//   - A flow is a pair of source and destination. It waits for one decision:
//     attached to an association, served by Python, refused or dropped.
//   - An association is one leg in use. Datagrams that arrive on it go to the source
//     that it belongs to, whoever sent them (RFC 4787, endpoint-independent mapping
//     and filtering). A shared one is for DNS queries; see queries.go.
//   - Only the datagrams of undecided flows and those for Python wait, both bounded:
//     what a socket or the device does not take is dropped.
//   - A leg's socket is closed in the goroutine of its loop, under the
//     association's lock, so never while another thread uses it.
//   - Locks: an association's io may be held when the table's mu is taken, not
//     the other way round.
package datagram

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/link"
)

// Refusal is what the app is to see, as in netstack.h; 0 is none.
type Refusal uint32

// The refusals that come from sockets.
const (
	RefuseHostUnreachable Refusal = 2
	RefuseNetUnreachable  Refusal = 3
	RefuseProhibited      Refusal = 4
	RefusePortUnreachable Refusal = 5
)

const (
	// payloadLimit is the longest payload that an IPv4 packet holds.
	payloadLimit = 65507

	// queueLimit and queueBytes bound what waits for the decision about one flow
	// and about all: an app's first flight, and no flood.
	queueLimit = 16
	queueBytes = 8 << 20

	// sourceLimit bounds what waits of one source: a program that talks to
	// thousands, while its leg is opened, keeps nobody else from asking.
	sourceLimit = 256

	// verdictLife is how long a refused or dropped flow needs no new decision.
	verdictLife = 2 * time.Second
)

// Config is what a table works with.
type Config struct {
	Undecided    int // flows that may wait for a decision
	UndecidedOf  int // those of one host
	Flows        int
	Associations int
	Timeout      time.Duration // of flows and associations without a datagram

	Gateway4, Gateway6 [16]byte // IPv4 in the first four bytes

	Link   *link.Endpoint
	Loops  []*carry.Loop
	Events *events.Queue

	// Post leaves an event found while reading the device; NextFlow numbers a new
	// flow. Both are called in the thread that has the device.
	Post     func(events.Event)
	NextFlow func() uint64
	// Reject tells the app about a datagram that it sent earlier.
	Reject func(source, destination *link.End, how Refusal)
	// Fragment writes a datagram that is larger than the device's MTU.
	Fragment func(source, destination *link.End, payload []byte)
}

type key struct{ source, destination link.End }

type state uint8

const (
	undecided state = iota
	attached
	served
	refused
	dropped
)

// flow is a pair of source and destination.
type flow struct {
	key         key
	to          link.End // where an attached one really goes
	id          uint64
	state       state
	how         Refusal // of a refused one, else 0
	association *Association
	queue       [][]byte // of an undecided one
	sniffed     *sniffed // the same, if its name is wanted
	active      int64    // milliseconds, see Table.now
	place       *list.Element

	note  uint64 // Python's
	asked int64  // milliseconds, as active
	up    uint64 // bytes of an attached one
	down  atomic.Uint64
	heard atomic.Int64 // when the last datagram came for the app, in milliseconds
	gone  atomic.Bool  // it was removed
}

// Table is all flows and associations of an engine.
type Table struct {
	config   Config
	Services Services

	mu           sync.Mutex
	flows        map[key]*flow
	waiting      map[uint64]*flow // the undecided ones, by id
	ofSource     map[link.End]int // how many of those a source has, and with port 0 a host
	queued       int              // bytes in their queues
	lru          list.List        // decided flows, the idlest first
	brief        list.List        // refused and dropped ones, the oldest first
	associations map[uint64]*Association
	idle         list.List // associations, the idlest first
	last         uint64    // the newest association's id
	quiesced     bool
	sweeping     bool
	follows      bool // the ends of attached flows are told
	orphaned     bool // there may be flows whose association has ended
	timer        *time.Timer

	now   atomic.Int64 // milliseconds since began, as of the last look
	began time.Time

	out           sender // of the thread that has the device
	receivers     []*receiver
	serviceWriter *link.DatagramWriter

	Up, Down, Total, Evicted atomic.Uint64 // datagrams, datagrams, associations
	BytesUp, BytesDown       atomic.Uint64
	DropUndecided, DropSend  atomic.Uint64
	DropReply                atomic.Uint64
}

// New makes an empty table.
func New(config Config) *Table {
	t := &Table{
		config:        config,
		flows:         make(map[key]*flow),
		waiting:       make(map[uint64]*flow),
		ofSource:      make(map[link.End]int),
		associations:  make(map[uint64]*Association),
		began:         time.Now(),
		serviceWriter: link.NewDatagramWriter(config.Link),
	}
	t.out.table = t
	for range config.Loops {
		t.receivers = append(t.receivers, &receiver{table: t, writer: link.NewDatagramWriter(config.Link)})
	}
	return t
}

// Look reads the clock. Activity is noted in its terms, so that not every
// datagram reads it.
func (t *Table) Look() int64 {
	now := time.Since(t.began).Milliseconds()
	t.now.Store(now)
	return now
}

// Take takes datagrams of an app, in the thread that has the device; Flush must
// follow. segment is the size of each when payload holds several, else 0. The
// payload is the caller's again afterwards. A refusal is for the caller to send.
func (t *Table) Take(source, destination *link.End, payload []byte, segment int) Refusal {
	k := key{*source, *destination}
	t.mu.Lock()
	f := t.flows[k]
	// An association that has ended is none; a shared one that cannot tell this
	// query from another's is none for this flow, which asks for another.
	if f != nil && f.association != nil && (f.association.ended || f.association.shared && !t.takes(f, payload, segment)) {
		t.finish(f, f.association.why)
		f = nil
	}
	if f == nil {
		if f = t.request(k); f == nil {
			t.mu.Unlock()
			return 0
		}
	}
	t.touch(f)
	state, how, a, to := f.state, f.how, f.association, f.to
	switch state {
	case undecided:
		t.hold(f, payload, segment)
	case attached:
		a.sent = t.now.Load()
		f.up += uint64(len(payload))
		if a.shared {
			each(payload, segment, func(p []byte) { t.expect(f, p) })
		}
	}
	t.mu.Unlock()
	switch state {
	case served:
		t.Serve(source, destination, payload, segment)
	case attached:
		each(payload, segment, func(p []byte) { t.out.add(a, &to, p) })
	}
	return how
}

// Serve gives a datagram to Python without a flow.
func (t *Table) Serve(source, destination *link.End, payload []byte, segment int) {
	each(payload, segment, func(p []byte) { t.Services.push(source, destination, p) })
}

// Flush sends what Take has collected.
func (t *Table) Flush() { t.out.flush() }

// each calls f for every datagram of a payload.
func each(payload []byte, segment int, f func([]byte)) {
	for segment > 0 && len(payload) > segment {
		f(payload[:segment])
		payload = payload[segment:]
	}
	f(payload)
}

// request makes an undecided flow, nil if there may be none. Called with mu held.
func (t *Table) request(k key) *flow {
	if t.quiesced {
		return nil
	}
	host := link.End{Host: k.source.Host, Family: k.source.Family}
	if len(t.waiting) >= t.config.Undecided || t.ofSource[host] >= t.config.UndecidedOf || t.ofSource[k.source] >= sourceLimit {
		t.DropUndecided.Add(1)
		return nil
	}
	if len(t.flows) >= t.config.Flows {
		idlest := t.lru.Front()
		if idlest == nil {
			idlest = t.brief.Front()
		}
		if idlest == nil {
			t.DropUndecided.Add(1)
			return nil
		}
		t.finish(idlest.Value.(*flow), unix.ENOBUFS)
	}
	now := t.now.Load()
	f := &flow{key: k, id: t.config.NextFlow(), active: now, asked: now}
	t.flows[k] = f
	t.waiting[f.id] = f
	t.ofSource[host]++
	t.ofSource[k.source]++
	t.sweepSoon()
	t.config.Post(f.event(events.UDPRequest))
	return f
}

func (f *flow) event(kind uint32) events.Event {
	source, destination := &f.key.source, &f.key.destination
	return events.Event{
		Kind: kind, Flow: f.id, Family: uint8(source.Family), Protocol: 17,
		Source: source.Host, SourcePort: source.Port,
		Destination: destination.Host, DestPort: destination.Port,
	}
}

// hold keeps datagrams of an undecided flow. Called with mu held.
func (t *Table) hold(f *flow, payload []byte, segment int) {
	each(payload, segment, func(p []byte) {
		if len(f.queue) >= queueLimit || t.queued+len(p) > queueBytes {
			t.DropUndecided.Add(1)
			return
		}
		t.queued += len(p)
		f.queue = append(f.queue, append([]byte(nil), p...))
		t.sniff(f, p)
	})
}

// touch notes activity of a flow and its association. Called with mu held.
func (t *Table) touch(f *flow) {
	now := t.now.Load()
	if now-f.active > resolution && f.state != refused && f.state != dropped {
		f.active = now
		if f.place != nil {
			t.lru.MoveToBack(f.place)
		}
	}
	if f.association != nil {
		t.touchAssociation(f.association, now)
	}
}

// remove forgets a flow. Called with mu held.
func (t *Table) remove(f *flow) {
	delete(t.flows, f.key)
	f.gone.Store(true)
	if f.state == undecided {
		t.settle(f)
	}
	if f.place != nil {
		// Of the two lists, the one that it is in.
		t.lru.Remove(f.place)
		t.brief.Remove(f.place)
		f.place = nil
	}
}

// settle takes a flow out of the undecided ones and returns what it queued.
// Called with mu held.
func (t *Table) settle(f *flow) (queue [][]byte) {
	queue, f.queue = f.queue, nil
	if f.sniffed != nil && f.sniffed.timer != nil {
		f.sniffed.timer.Stop()
	}
	f.sniffed = nil
	for _, p := range queue {
		t.queued -= len(p)
	}
	delete(t.waiting, f.id)
	host := link.End{Host: f.key.source.Host, Family: f.key.source.Family}
	for _, source := range []link.End{host, f.key.source} {
		if t.ofSource[source]--; t.ofSource[source] == 0 {
			delete(t.ofSource, source)
		}
	}
	return queue
}
