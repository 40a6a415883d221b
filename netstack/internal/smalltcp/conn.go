// Package smalltcp is a TCP for a link that is memory: the app's side of a flow without an
// endpoint of gVisor's, whose header, checksum and reassembly code it uses.
//
// Such a link loses a packet only when a queue of the app's kernel is full, and never
// reorders. So there is no congestion control and no measuring of round trips: what the
// window of the other side allows is sent at once, in segments as large as the device
// takes, and after a loss everything is sent again from there on. Selective
// acknowledgements and timestamps are not offered.
//
// Rules
//   - No goroutine belongs to a connection. A packet is handled by the thread that read it,
//     what is written is sent by the thread that writes it, and one timer of the flow's loop
//     sends again what nobody acknowledged.
//   - The payload of a packet is not copied while somebody reads it before Keep; what the
//     socket did not take then stays in chunks, and is missing from the window.
//   - mu guards all of a connection but its state, which is read without. Locks, in this
//     order: mu, those of the waiter queue's listeners and of the loop.
//   - Handle, Segment, Keep and Host.Flush are called by the one thread that has the device;
//     all others by any.
package smalltcp

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/carry"
)

const (
	// receiveBuffer is the most bytes of an app that wait here, and the window it sees: what
	// 16 bits and the shift can say.
	receiveBuffer = largestWindow << windowShift

	// windowShift makes windows of up to 2 MiB out of 16 bits (RFC 7323).
	windowShift = 5

	// smallestMSS is the least an app may ask for, in bytes: Linux takes no less either.
	smallestMSS = 48

	// defaultMSS is for apps that do not say what they take (RFC 9293, 3.7.1).
	defaultMSS4, defaultMSS6 = 536, 1220

	everything = waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents
)

// Conn is one connection with an app.
type Conn struct {
	host  *Host
	queue *waiter.Queue
	loop  *carry.Loop
	state atomic.Uint32 // a tcp.EndpointState

	mu     sync.Mutex
	packet packet
	err    tcpip.Error // why it failed

	// What comes from the app.
	expected   uint32 // the next number
	edge       uint32 // the number up to which the app may send
	shift      uint8  // of our window
	owed       int    // how many bytes are still to be acknowledged
	listed     bool   // in Host.due
	ended      bool   // its FIN has come
	unread     chunks
	direct     []byte // the payload of the packet at hand, after all that is unread
	early      []early
	earlyBytes int

	// What goes to the app.
	oldest       uint32 // the first number that it has not acknowledged
	next         uint32 // the next number to send
	furthest     uint32 // the first number that was never sent
	window       uint32 // from oldest on
	widest       uint32 // the largest window it ever had
	theirShift   uint8
	windowSeq    uint32 // the numbers of the segment that brought the window
	windowAck    uint32
	unsent       chunks // not acknowledged, in fact
	blocked      bool   // a writer waits for room
	ending       bool   // a FIN follows all that is unsent
	finSent      bool
	finished     bool   // the FIN is acknowledged
	duplicates   int    // acknowledgements of the same number
	recovering   bool   // until recoverUntil is acknowledged
	recoverUntil uint32 // see loss
	closed       bool   // nobody reads any more
	givenUp      bool   // during the handshake

	timing timing
}

// Open answers a SYN, which is behind the packet's headers, in the goroutine of loop.
func (h *Host) Open(syn *stack.PacketBuffer, loop *carry.Loop, queue *waiter.Queue) *Conn {
	c := &Conn{host: h, queue: queue, loop: loop}
	c.timing.timer.Expires = c
	c.state.Store(uint32(tcp.StateSynRecv))
	asked := header.TCP(syn.TransportHeader().Slice())
	c.packet.address(syn.NetworkHeader().Slice(), asked)
	options := header.ParseSynOptions(asked.Options(), false)
	mss := int(options.MSS)
	if mss == 0 {
		mss = defaultMSS4
		if c.packet.six {
			mss = defaultMSS6
		}
	}
	c.packet.mss = max(smallestMSS, min(mss, h.mss(c.packet.six)))
	if options.WS >= 0 {
		c.theirShift, c.shift = uint8(min(options.WS, header.MaxWndScale)), windowShift
	}
	c.expected = asked.SequenceNumber() + 1
	c.edge = c.expected + largestWindow
	c.oldest = rand.Uint32()
	c.next = c.oldest + 1
	c.furthest = c.next
	c.mu.Lock()
	c.synACK()
	c.arm()
	c.mu.Unlock()
	return c
}

// setState is called with mu held.
func (c *Conn) setState(state tcp.EndpointState) { c.state.Store(uint32(state)) }

// EndpointState implements carry.App.
func (c *Conn) EndpointState() tcp.EndpointState { return tcp.EndpointState(c.state.Load()) }

// over tells whether nothing can come or go any more.
func (c *Conn) over() bool {
	switch c.EndpointState() {
	case tcp.StateError, tcp.StateClose:
		return true
	}
	return false
}

// fail ends it at once.
func (c *Conn) fail(err tcpip.Error) {
	c.err = err
	c.setState(tcp.StateError)
	c.release()
}

// finish ends it in order.
func (c *Conn) finish(state tcp.EndpointState) {
	c.setState(state)
	c.release()
}

func (c *Conn) release() {
	c.unsent.clear()
	c.early, c.earlyBytes = nil, 0
	c.stopTimer()
	c.queue.Notify(everything)
}

// reset ends it at once, and tells the app.
func (c *Conn) reset(err tcpip.Error) {
	c.send(header.TCPFlagRst|header.TCPFlagAck, c.furthest, nil)
	c.fail(err)
}

// isBefore tells whether a number comes before another one.
func isBefore(a, b uint32) bool { return int32(a-b) < 0 }
