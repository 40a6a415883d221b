package smalltcp

import (
	"bytes"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/link"
)

const (
	// owedLimit is how many bytes are acknowledged at once, whatever else is at hand.
	owedLimit = 256 << 10

	// earlyLimit is how many segments behind a gap are kept.
	earlyLimit = 64
)

// early is a segment that came before what belongs in front of it.
type early struct {
	seq  uint32
	data []byte // of its own size: chunks would hold much more than is counted
}

// Handle implements carry.App.
func (c *Conn) Handle(p link.Packet) {
	t, ok := parse(p.Bytes(), c.packet.six)
	switch {
	case !ok:
		c.host.link.Malformed.Add(1)
	case !c.host.link.Intact(&p):
		c.host.link.BadChecksum.Add(1)
	default:
		c.Segment(t)
	}
}

// Segment handles a segment whose checksum is right.
func (c *Conn) Segment(t header.TCP) {
	if !whole(t) {
		c.host.link.Malformed.Add(1)
		return
	}
	c.mu.Lock()
	c.handle(t, t.Payload())
	c.mu.Unlock()
}

// Keep implements carry.App: what nobody has read of the packet is copied.
func (c *Conn) Keep() {
	c.mu.Lock()
	c.keep()
	c.mu.Unlock()
}

func (c *Conn) keep() {
	if len(c.direct) > 0 {
		c.unread.store(c.direct)
	}
	c.direct = nil
}

// handle is RFC 9293, 3.10.7.4, with RFC 5961.
func (c *Conn) handle(t header.TCP, payload []byte) {
	flags := t.Flags()
	seq, ack := t.SequenceNumber(), t.AckNumber()
	switch {
	case c.over():
		if c.givenUp && flags.Contains(header.TCPFlagAck) && !flags.Contains(header.TCPFlagRst) {
			// The app has just completed the handshake: nobody else would answer this segment.
			c.send(header.TCPFlagRst, ack, nil)
		}
		return
	case flags.Contains(header.TCPFlagRst):
		c.handleReset(seq)
		return
	case flags.Contains(header.TCPFlagSyn):
		c.handleSYN(seq)
		return
	case !flags.Contains(header.TCPFlagAck):
		return
	case c.EndpointState() == tcp.StateSynRecv && !c.accept(t):
		return
	}
	c.timing.heard, c.timing.alive = true, true
	fin := flags.Contains(header.TCPFlagFin)
	length := len(payload)
	if fin {
		length++
	}
	ahead := int(int32(seq - c.expected))
	switch {
	case ahead > 0 && uint32(ahead) >= c.edge-c.expected, ahead < 0 && length <= -ahead:
		// Outside the window, or a repetition, or a question whether we are still there.
		c.acknowledge()
		return
	case ahead < 0:
		payload = payload[min(-ahead, len(payload)):]
	}
	if !c.handleACK(t, ack, length > 0) {
		return
	}
	switch {
	case ahead > 0:
		if len(payload) > 0 {
			c.takeEarly(seq, payload)
			c.acknowledge()
		}
	case len(payload) > 0 || fin:
		c.take(payload, fin)
	}
	if !c.over() {
		c.push()
	}
}

// handleReset: only the very number that is expected ends it; whoever guesses is asked.
func (c *Conn) handleReset(seq uint32) {
	switch {
	case seq == c.expected:
		c.fail(&tcpip.ErrConnectionReset{})
	case seq-c.expected < c.edge-c.expected && c.EndpointState() != tcp.StateSynRecv:
		c.acknowledge()
	}
}

// handleSYN: a repeated one is answered once more. In the handshake, any other one says that
// the app has given up, and will be repeated; later it is asked.
func (c *Conn) handleSYN(seq uint32) {
	switch {
	case c.EndpointState() != tcp.StateSynRecv:
		c.acknowledge()
	case seq == c.expected-1:
		c.synACK()
	default:
		c.fail(&tcpip.ErrConnectionAborted{})
	}
}

// Unreachable handles an ICMP error about a segment of this number. It ends a handshake;
// later it could be anybody's (RFC 5927).
func (c *Conn) Unreachable(seq uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.EndpointState() == tcp.StateSynRecv && seq == c.oldest {
		c.fail(&tcpip.ErrHostUnreachable{})
	}
}

// accept completes the handshake, if the app has seen the SYN-ACK.
func (c *Conn) accept(t header.TCP) bool {
	if t.AckNumber() != c.next {
		c.send(header.TCPFlagRst, t.AckNumber(), nil)
		return false
	}
	c.oldest = c.next
	c.windowSeq, c.windowAck = t.SequenceNumber(), c.next
	c.setWindow(t)
	c.setState(tcp.StateEstablished)
	if c.ending {
		c.setState(tcp.StateFinWait1)
	}
	c.timing.progress = true
	c.queue.Notify(waiter.WritableEvents)
	return true
}

// take takes what is next, as much as was offered.
func (c *Conn) take(payload []byte, fin bool) {
	if c.closed && len(payload) > 0 {
		c.reset(&tcpip.ErrConnectionAborted{}) // there is nobody to take it
		return
	}
	if c.ended {
		c.acknowledge()
		return
	}
	if room := int(c.edge - c.expected); len(payload) > room {
		payload, fin = payload[:room], false
		c.owe(1)
	}
	c.direct = payload
	c.expected += uint32(len(payload))
	c.owe(len(payload))
	if len(c.early) > 0 {
		c.closeGap()
	}
	if fin {
		c.end()
	}
	c.queue.Notify(waiter.ReadableEvents)
}

// end handles the app's FIN.
func (c *Conn) end() {
	c.ended = true
	c.expected++
	c.owe(1)
	switch c.EndpointState() {
	case tcp.StateEstablished:
		c.setState(tcp.StateCloseWait)
	case tcp.StateFinWait1:
		c.setState(tcp.StateClosing)
	case tcp.StateFinWait2:
		c.acknowledge()
		c.finish(tcp.StateTimeWait)
	}
}

// owe notes that something is to be acknowledged, before long.
func (c *Conn) owe(bytes int) {
	c.owed += bytes
	if c.owed >= owedLimit {
		c.acknowledge()
	}
	if !c.listed {
		c.listed = true
		c.host.due = append(c.host.due, c)
	}
}

// takeEarly keeps a segment behind a gap, sorted by its number.
func (c *Conn) takeEarly(seq uint32, payload []byte) {
	room := int(c.edge - seq)
	payload = payload[:min(len(payload), room)]
	if c.ended || c.closed || len(c.early) >= earlyLimit || c.earlyBytes+len(payload) > receiveBuffer {
		return
	}
	at, found := slices.BinarySearchFunc(c.early, seq, func(e early, seq uint32) int { return int(int32(e.seq - seq)) })
	if found {
		return
	}
	c.early = slices.Insert(c.early, at, early{seq, bytes.Clone(payload)})
	c.earlyBytes += len(payload)
}

// closeGap takes what came early and is next now.
func (c *Conn) closeGap() {
	c.keep()
	done := 0
	for ; done < len(c.early); done++ {
		e := &c.early[done]
		behind := int(int32(c.expected - e.seq))
		if behind < 0 {
			break
		}
		c.earlyBytes -= len(e.data)
		if behind >= len(e.data) {
			continue
		}
		data := e.data[behind:]
		c.expected += uint32(len(data))
		c.owe(len(data))
		c.unread.add(chunk{data: data})
	}
	c.early = slices.Delete(c.early, 0, done)
	if len(c.early) == 0 {
		c.early = nil
	}
}

// offer is the window that the app is offered, as its header says it; it never takes back
// what it has offered before.
func (c *Conn) offer(shift uint8) uint16 {
	window := min(c.free()>>shift, largestWindow)
	if edge := c.expected + window<<shift; isBefore(c.edge, edge) {
		c.edge = edge
	} else {
		window = min((c.edge-c.expected)>>shift, largestWindow)
	}
	return uint16(window)
}

// free is how many more bytes may wait here.
func (c *Conn) free() uint32 { return uint32(max(0, receiveBuffer-c.unread.size-len(c.direct))) }

// reopen tells the app that it may send on, once that is worth a packet.
func (c *Conn) reopen() {
	edge := c.expected + min(c.free(), largestWindow<<c.shift)
	if gain := int(int32(edge - c.edge)); gain >= receiveBuffer/4 || gain >= largestWindow/2 && c.shift == 0 ||
		gain > 0 && c.edge-c.expected < uint32(c.packet.mss) && gain >= 2*c.packet.mss {
		c.acknowledge()
	}
}
