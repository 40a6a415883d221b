package datagram

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/link"
)

// Leg is what datagrams look like on an association's socket, as in netstack.h.
type Leg uint32

// The legs.
const (
	Direct Leg = 1
	Socks5 Leg = 2
)

const (
	// resolution is how exactly activity is noted, in milliseconds. It only serves
	// to find the association that was idle for longest.
	resolution = 100

	// legBuffer is what a leg's socket holds each way, in bytes of the kernel's
	// accounting: some 20 ms of 130,000 small datagrams a second. The kernel takes
	// it as it is used, and net.ipv4.udp_mem bounds all sockets together.
	legBuffer = 1 << 20

	// refusedEvery is the time between two reports of refusals on one association, in
	// milliseconds: a scan refuses as fast as it sends.
	refusedEvery = 2000

	udpGRO = 104 // UDP_GRO of linux/udp.h
)

// Association is one leg in use.
type Association struct {
	id       uint64
	leg      Leg
	shared   bool
	name     string // of the only host it reaches, if it is sent in place of an address
	table    *Table
	loop     *carry.Loop
	receiver *receiver

	io       sync.Mutex // held while the socket is written to or closed
	fd       int        // -1 once it is closed
	single   bool       // several datagrams in one send do not work here
	failures int        // how often that did not work in a row

	// The rest is under the table's mu.
	source       link.End // of no family until a flow is attached
	host         link.End // the address that the app knows name by, without a port; likewise
	only         link.End // the destination, if destinations is 1
	destinations int
	active       int64 // milliseconds, as sent: of the last datagram up
	sent         int64
	ended        bool
	refusals     int64 // when a refusal is next reported, at the earliest
	place        *list.Element
	queries      queries
	aliases      map[link.End]link.End
	why          unix.Errno // it has ended, if that is an error

	last *flow // whose datagrams came last, or nil; of the loop's goroutine
}

// Associate makes an association of a socket, which it owns from now on, also
// when it fails. With a name, that is sent in place of every destination's address.
func (t *Table) Associate(fd int, leg Leg, shared bool, name string) (uint64, error) {
	if leg != Direct && leg != Socks5 || len(name) > nameLimit || name != "" && (leg != Socks5 || shared) {
		_ = unix.Close(fd)
		return 0, unix.EINVAL
	}
	prepare(fd, leg)
	a := &Association{leg: leg, shared: shared, name: name, table: t, fd: fd}
	t.mu.Lock()
	if t.quiesced {
		t.mu.Unlock()
		_ = unix.Close(fd)
		return 0, unix.ESHUTDOWN
	}
	if len(t.associations) >= t.config.Associations {
		t.Evicted.Add(1)
		t.end(t.idle.Front().Value.(*Association), unix.ENOBUFS)
	}
	t.last++
	a.id = t.last
	n := int(a.id % uint64(len(t.config.Loops)))
	a.loop, a.receiver = t.config.Loops[n], t.receivers[n]
	a.active = t.Look()
	a.sent = a.active
	a.place = t.idle.PushBack(a)
	t.associations[a.id] = a
	t.Total.Add(1)
	t.sweepSoon()
	// With the lock held, because it must not end, and its fd be reused, before it
	// is watched.
	err := a.loop.Watch(fd, a)
	if err != nil {
		t.forget(a)
	}
	t.mu.Unlock()
	return a.id, err
}

// prepare sets the options of a leg's socket. It does without those that the kernel
// does not know or allow.
func prepare(fd int, leg Leg) {
	for _, option := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF, unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, legBuffer)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, udpGRO, 1)
	if leg == Direct {
		// Report errors with the destination that they are about.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	}
}

// Dissociate ends an association without an event.
func (t *Table) Dissociate(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.associations[id]; a != nil {
		t.forget(a)
	}
}

// end ends an association and tells Python why. Called with mu held.
func (t *Table) end(a *Association, errno unix.Errno) {
	if a.ended {
		return
	}
	if errno != unix.ETIMEDOUT {
		a.why = errno
	}
	t.forget(a)
	t.config.Events.PostLazy(events.Event{Kind: events.AssociationClosed, Flow: a.id, Error: int32(errno)})
}

// forget ends an association. Its flows are forgotten with their next datagram, or
// after a while without one; by the next sweep if their ends are told. Called with mu held.
func (t *Table) forget(a *Association) {
	a.ended, t.orphaned = true, true
	a.queries, a.aliases = queries{}, nil
	t.idle.Remove(a.place)
	delete(t.associations, a.id)
	a.loop.Call(a.close)
}

// close runs in the loop's goroutine, so that nobody reads the socket meanwhile.
func (a *Association) close() {
	a.io.Lock()
	defer a.io.Unlock()
	a.loop.Unwatch(a.fd)
	_ = unix.Close(a.fd)
	a.fd = -1
}

// fail ends an association whose socket failed.
func (a *Association) fail(errno unix.Errno) {
	a.table.mu.Lock()
	defer a.table.mu.Unlock()
	a.table.end(a, errno)
}

// refused handles the refusal of a datagram on a SOCKS5 leg: a proxy may forward the
// error of a destination. Nothing in it says which, as no proxy quotes its own header,
// so an app is told only if it has one destination.
func (t *Table) refused(a *Association) {
	t.mu.Lock()
	now := t.Look()
	if a.ended {
		t.mu.Unlock()
		return
	}
	if now >= a.refusals {
		a.refusals = now + refusedEvery
		t.config.Events.PostLazy(events.Event{Kind: events.AssociationRefused, Flow: a.id})
	}
	only, alone := a.only, !a.shared && a.destinations == 1
	t.mu.Unlock()
	if alone {
		t.tell(a, &only, RefusePortUnreachable)
	}
}

// touchAssociation notes activity. Called with mu held.
func (t *Table) touchAssociation(a *Association, now int64) {
	if now-a.active > resolution && !a.ended {
		a.active = now
		t.idle.MoveToBack(a.place)
	}
}

// sweepSoon starts the sweeps, which go on while there is anything to sweep.
// Called with mu held.
func (t *Table) sweepSoon() {
	if t.sweeping {
		return
	}
	t.sweeping = true
	every := min(max(t.config.Timeout/8, 50*time.Millisecond), time.Second)
	if t.timer == nil {
		t.timer = time.AfterFunc(every, t.sweep)
		return
	}
	t.timer.Reset(every)
}

// sweep ends what has been idle for too long.
func (t *Table) sweep() {
	t.mu.Lock()
	follows := t.follows
	t.mu.Unlock()
	if follows {
		t.finishOrphans()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now, timeout := t.Look(), t.config.Timeout.Milliseconds()
	for e := t.idle.Front(); e != nil && now-e.Value.(*Association).active >= timeout; e = t.idle.Front() {
		t.end(e.Value.(*Association), unix.ETIMEDOUT)
	}
	for e := t.lru.Front(); e != nil && now-e.Value.(*flow).active >= timeout; e = t.lru.Front() {
		f := e.Value.(*flow)
		// One that only hears is as open as its association, see hear.
		if heard := f.heard.Load(); f.isOpen() && now-heard < timeout {
			f.active = heard
			t.lru.MoveToBack(e)
			continue
		}
		t.finish(f, 0)
	}
	for e := t.brief.Front(); e != nil && now-e.Value.(*flow).active >= verdictLife.Milliseconds(); e = t.brief.Front() {
		t.remove(e.Value.(*flow))
	}
	t.sweeping = false
	if len(t.flows) > 0 || len(t.associations) > 0 {
		t.sweepSoon()
	}
}

// Quiesce takes no new flows and associations.
func (t *Table) Quiesce() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quiesced = true
}

// Close ends everything, without events. The loops close the sockets before they
// end.
func (t *Table) Close() {
	t.Quiesce()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.associations {
		t.forget(a)
	}
	for _, f := range t.flows {
		t.remove(f)
	}
	if t.timer != nil {
		t.timer.Stop()
	}
}

// Count returns the gauges.
func (t *Table) Count() (flows, associations int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows), len(t.associations)
}

// aliasLimit bounds the aliases of one association.
const aliasLimit = 4096

// alias notes that the app knows a peer by another address: to the app, datagrams
// from the peer come from that address. Called with mu held.
func (a *Association) alias(peer, known link.End) {
	if a.aliases == nil || len(a.aliases) >= aliasLimit {
		a.aliases = make(map[link.End]link.End)
	}
	a.aliases[peer] = known
}

// knownAs is the address that an app knows a peer by: the peer's own if the app also
// sends to that one. Called with mu held.
func (t *Table) knownAs(a *Association, peer, source *link.End) link.End {
	known, ok := a.aliases[*peer]
	if ok && t.flows[key{*source, *peer}] == nil {
		return known
	}
	return *peer
}
