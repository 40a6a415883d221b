package engine

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/link"
	"nanotun/netstack/internal/listing"
	"nanotun/netstack/internal/smalltcp"
)

// Engine is one stack on one device. Its methods are called from one thread,
// the one that pumps; flows run on their loops besides.
type Engine struct {
	config   Config
	link     *link.Endpoint
	stack    *stack.Stack
	events   *events.Queue
	gateways gateways
	pending  *pendingTable
	standing *standings
	parties  *parties

	endAsking func()
	listener  *direct.Listener
	small     *small // or nil
	loops     []*carry.Loop
	nextFlow  uint64 // belongs to the thread that has the device
	listens   listens
	lent      atomic.Bool // a loop reads the device, not Pump

	// Of the loop that has the device.
	lentAt      time.Time // when it read last
	lentPackets int       // and how many
	heldOf      *joinedFlow

	mu       sync.Mutex
	joined   map[tuple]*joinedFlow // established, for the pump to find
	opening  map[tuple]*joinedFlow // in the handshake with the app
	half     *handshakes           // the same, by age
	others   int                   // how many of both are of other machines
	held     int                   // how many of joined are not joined yet, see heldFlow
	linger   *lingering            // ended, while their endpoints close
	quiesced bool

	flowsTotal, refused       atomic.Uint64
	bytesUp, bytesDown        atomic.Uint64 // of flows that ended
	dropFlowLimit, dropToGate atomic.Uint64
	dropHalfOpen              atomic.Uint64

	follows atomic.Bool // see Follow
	pages   listing.Pages

	courses   courses
	datagrams *datagram.Table
	pings     *rate.Limiter // errors about ICMP queries
	overrun   *rate.Limiter // SYNs of strangers, see forgets
}

// Open makes an engine on an open device.
func Open(config Config) (*Engine, error) {
	e := &Engine{
		config:   config,
		link:     link.New(config.TunFD, config.MTU, config.VirtioHeader),
		gateways: newGateways(config.Gateway4, config.Gateway6),
		parties:  newParties(config.Kernel4, config.Kernel6),
		joined:   make(map[tuple]*joinedFlow),
		opening:  make(map[tuple]*joinedFlow),
		pings:    newPingLimit(),
		overrun:  newOverrunLimit(),
	}
	notices := newNotices(func(event events.Event) { e.events.PostLazy(event) })
	e.standing = newStandings(func(event events.Event) { e.events.PostLazy(event) })
	e.pending = newPendingTable(config.PendingLimit, config.pace(), notices, e.standing)
	e.half = newHandshakes(notices, config.HalfOpenLimit, config.HalfOpen, e.lookAtHalfOpen)
	e.linger = newLingering(e.sweepLingering)
	var err error
	if e.events, err = events.New(); err != nil {
		return nil, fmt.Errorf("cannot make an eventfd: %w", err)
	}
	if err := e.openLoops(); err != nil {
		e.events.Close()
		return nil, err
	}
	if e.stack, err = newStack(e.link, config.Gateway4, config.Gateway6); err != nil {
		e.closeLoops()
		e.events.Close()
		return nil, err
	}
	e.endAsking = e.parties.askKernel(config.Interface)
	e.openDatagrams()
	e.listener = direct.NewListener(e.stack, receiveBuffer)
	e.openSmall()
	e.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, e.unclaimed)
	e.stack.SetTransportProtocolHandler(udp.ProtocolNumber, e.reassembled)
	return e, nil
}

func (e *Engine) openLoops() error {
	// One loop for two cores: the other one is the pump's.
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		loop, err := carry.NewLoop(e.config.HalfClosed)
		if err != nil {
			e.closeLoops()
			return fmt.Errorf("cannot make an epoll set: %w", err)
		}
		e.loops = append(e.loops, loop)
	}
	return nil
}

func (e *Engine) closeLoops() {
	for _, loop := range e.loops {
		loop.Close()
	}
}

// post leaves an event that was found while reading the device. The caller of Pump
// looks at the queue next; a loop has to wake it.
func (e *Engine) post(event events.Event) {
	if e.lent.Load() {
		e.events.Post(event)
		return
	}
	e.events.PostQuiet(event)
}

// EventFD is readable while Drain has something that Pump did not find.
func (e *Engine) EventFD() int { return e.events.FD() }

// Drain calls take for up to limit events, and returns how many there were. The flows
// that wait are told of last, and only as many as fit a turn of the reactor.
func (e *Engine) Drain(limit int, take func(*events.Event)) int {
	n := e.events.Drain(limit, take)
	n += e.pending.tell(limit-n, time.Now(), take)
	e.wake()
	return n
}

// wake makes the eventfd readable as soon as there is a flow to tell of.
func (e *Engine) wake() {
	switch ready, later := e.pending.ready(time.Now()); {
	case ready:
		e.events.Wake()
	case later:
		e.events.WakeLater()
	}
}

// unclaimed gets the TCP packets that no endpoint claims, in the pump's thread:
// a SYN becomes a waiting flow. False leaves the packet to the stack, which
// answers with a reset.
func (e *Engine) unclaimed(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
	t := tupleOf(id)
	if e.gateways.has(&t) && !e.listens.has(header.TCPProtocolNumber, t.destinationPort) {
		e.dropToGate.Add(1)
		return true
	}
	hdr := header.TCP(packet.TransportHeader().Slice())
	flags := hdr.Flags()
	if _, valid, ok := header.TCPValid(hdr, func() uint16 { return packet.Data().Checksum() },
		uint16(packet.Data().Size()), id.RemoteAddress, id.LocalAddress, packet.RXChecksumValidated); !ok || !valid {
		e.stack.Stats().TCP.ChecksumErrors.Increment()
		return true
	}
	switch {
	case e.assembled(&t, packet):
		return true
	case flags.Contains(header.TCPFlagRst):
		if flow := e.pending.reset(t); flow != 0 {
			e.post(t.event(events.Abandoned, flow))
			e.wake()
		}
		return true
	case !flags.Contains(header.TCPFlagSyn) || flags.Contains(header.TCPFlagAck):
		return false
	}
	e.request(t, id, packet)
	return true
}

func (e *Engine) request(t tuple, id stack.TransportEndpointID, packet *stack.PacketBuffer) {
	now := time.Now()
	party := e.parties.of(&t, e.pending.ours, now)
	// Under one lock with Join: a flow is always in one of the tables, or a
	// repeated SYN would become a second flow between them.
	e.mu.Lock()
	_, opening := e.opening[t]
	full := e.full(party.class.isHere())
	var begun *waiting
	var by *standing
	var abandoned uint64
	switch {
	case opening || e.quiesced:
	case full:
		e.dropFlowLimit.Add(1)
	default:
		e.nextFlow++
		begun, by, abandoned = e.pending.add(e.nextFlow, t, id, packet, party, now)
	}
	e.mu.Unlock()
	if begun != nil {
		e.beginDial(begun, by)
	}
	if abandoned != 0 {
		e.post(t.event(events.Abandoned, abandoned))
	}
	if e.lent.Load() { // otherwise Pump's caller looks
		e.wake()
	}
}

// find returns what there is at a tuple: an established flow, one in its handshake, or one
// that has ended and still closes.
func (e *Engine) find(t *tuple) (joined *joinedFlow, opening *handshake, closing *joinedFlow) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f := e.joined[*t]; f != nil {
		return f, nil, nil
	}
	if f := e.opening[*t]; f != nil {
		return nil, f.handshake, nil
	}
	return nil, nil, e.linger.find(t)
}

// deliver gives one packet to the stack, and does what it makes possible for
// its flow in this thread.
func (e *Engine) deliver(p link.Packet) {
	t, kind := glance(p.Bytes())
	switch kind {
	case kindQuery:
		// Promiscuous as it is, the stack would answer for the whole world.
		if !e.gateways.has(&t) {
			e.prohibit(&t, p.Bytes())
			return
		}
	case kindPiece:
		if !e.gateways.has(&t) {
			return
		}
	case kindTiny:
		e.link.Malformed.Add(1)
		return
	case kindUDP:
		e.takeDatagrams(&t, p)
		return
	case kindTCP:
		switch f, opening, closing := e.find(&t); {
		case f != nil:
			e.carry(f, p)
			return
		case opening != nil:
			opening.handlePacket(p)
			return
		case closing != nil && !e.begins(closing, p):
			e.last(closing, func(app carry.App) { app.Handle(p) })
			return
		}
		if e.forgets(&t, p.Bytes()) {
			return
		}
	}
	if kind == kindOther && e.unreachable(p.Bytes()) {
		return
	}
	if p.Segment != 0 {
		e.link.Malformed.Add(1) // several datagrams behind an odd header: nothing takes them apart
		return
	}
	e.link.Deliver(p)
}

// carry handles a packet of an established flow, and moves what it brings.
func (e *Engine) carry(f *joinedFlow, p link.Packet) {
	f.BeginPump()
	conn, isSmall := f.Endpoint.(*smalltcp.Conn)
	switch held := len(p.Bytes()) <= heldSize && e.lent.Load() && f.Quick(); {
	case held && !isSmall:
		e.heldOf = f
		e.link.DeliverHeld(func() { f.Endpoint.Handle(p); f.EndPump() })
	case held:
		e.heldOf = f
		e.small.Hold(conn)
		fallthrough
	default:
		f.Endpoint.Handle(p)
		f.EndPump()
	}
	if f.Ended() { // meanwhile, and the packet may have been the last one
		e.lingered(f)
	}
}
