package smalltcp

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/carry"
)

// duplicateLimit is how many acknowledgements of the same number tell of a loss
// (RFC 5681, 3.2).
const duplicateLimit = 3

// handleACK handles the acknowledgement and the window of a segment. False: it is of no
// connection that is known here (RFC 5961, 5.2).
func (c *Conn) handleACK(t header.TCP, ack uint32, carries bool) bool {
	if isBefore(c.furthest, ack) || isBefore(ack, c.oldest-c.widest) {
		c.acknowledge()
		return false
	}
	before := c.window
	if isBefore(c.windowSeq, t.SequenceNumber()) || c.windowSeq == t.SequenceNumber() && !isBefore(ack, c.windowAck) {
		c.windowSeq, c.windowAck = t.SequenceNumber(), ack
		c.setWindow(t)
	}
	switch {
	case isBefore(c.oldest, ack):
		c.acknowledged(ack)
	case ack == c.oldest && !carries && c.window == before && c.oldest != c.furthest:
		if c.duplicates++; c.duplicates == duplicateLimit && !c.recovering {
			c.recovering, c.recoverUntil = true, c.furthest
			c.resend()
		}
	}
	if c.window > before && (before == 0 || c.timing.vain > 0) && c.oldest != c.furthest {
		c.startAgain()
	}
	return true
}

// startAgain has everything sent again that is not acknowledged, now that the app takes more:
// a kernel whose memory is full throws away what was in its window, and the timer may be set
// for a minute by now.
func (c *Conn) startAgain() {
	c.recovering, c.duplicates = false, 0
	c.next = c.oldest
	c.timing.vain = 0
	c.stopTimer()
}

func (c *Conn) setWindow(t header.TCP) {
	c.window = uint32(t.WindowSize()) << c.theirShift
	c.widest = max(c.widest, c.window)
}

// acknowledged lets go of what the app has.
func (c *Conn) acknowledged(ack uint32) {
	n := int(ack - c.oldest)
	c.oldest = ack
	if isBefore(c.next, ack) {
		c.next = ack
	}
	c.duplicates = 0
	c.timing.progress = true
	c.timing.moved.Store(true)
	ended := c.finSent && !c.finished && ack == c.furthest
	if ended {
		c.finished = true
		n-- // the FIN
	}
	c.unsent.drop(n)
	if c.recovering {
		if c.recovering = isBefore(ack, c.recoverUntil); c.recovering && c.next == c.furthest {
			c.resend() // the next gap
		}
	}
	if c.blocked && c.unsent.size <= carry.SendBuffer/2 {
		c.blocked = false
		c.queue.Notify(waiter.WritableEvents)
	}
	if !ended {
		return
	}
	switch c.EndpointState() {
	case tcp.StateFinWait1:
		c.setState(tcp.StateFinWait2)
	case tcp.StateClosing:
		c.finish(tcp.StateTimeWait)
	case tcp.StateLastAck:
		c.finish(tcp.StateClose)
	}
}

// resend sends the oldest segment again, and returns how many numbers it has.
func (c *Conn) resend() uint32 {
	c.host.Retransmits.Add(1)
	sent := int(c.furthest - c.oldest)
	if c.finSent {
		sent--
	}
	if sent == 0 {
		c.send(header.TCPFlagAck|header.TCPFlagFin, c.oldest, nil)
		return 1
	}
	data := c.segment(c.unsent.at(0), sent)
	c.send(header.TCPFlagAck|header.TCPFlagPsh, c.oldest, data)
	return uint32(len(data))
}

// segment is as much of data as one segment carries, of an allowed number of bytes.
func (c *Conn) segment(data []byte, allowed int) []byte {
	if !c.host.link.Large() {
		allowed = min(allowed, c.packet.mss)
	}
	return data[:min(len(data), allowed)]
}

// push sends what the window allows.
func (c *Conn) push() {
	if c.EndpointState() == tcp.StateSynRecv {
		return
	}
	for {
		data := c.unsent.at(int(c.next - c.oldest))
		if len(data) == 0 {
			break
		}
		allowed := int(int32(c.oldest + c.window - c.next))
		if allowed <= 0 || allowed < min(len(data), c.packet.mss) && c.next != c.oldest {
			c.arm()
			return
		}
		data = c.segment(data, allowed)
		flags := header.TCPFlagAck
		if int(c.next-c.oldest)+len(data) == c.unsent.size {
			flags |= header.TCPFlagPsh
		}
		c.send(flags, c.next, data)
		c.sent(len(data))
	}
	if c.ending && !c.finished && int(c.next-c.oldest) == c.unsent.size {
		c.send(header.TCPFlagFin|header.TCPFlagAck, c.next, nil)
		c.finSent = true
		c.sent(1)
	}
	c.arm()
}

func (c *Conn) sent(n int) {
	c.next += uint32(n)
	if isBefore(c.furthest, c.next) {
		c.furthest = c.next
	} else {
		c.host.Retransmits.Add(1)
	}
}

// shut has a FIN follow what was written.
func (c *Conn) shut() {
	if c.over() || c.ending {
		return
	}
	c.ending = true
	switch c.EndpointState() {
	case tcp.StateSynRecv:
		return // the FIN comes after the handshake
	case tcp.StateCloseWait:
		c.setState(tcp.StateLastAck)
	default:
		c.setState(tcp.StateFinWait1)
	}
	c.push()
}
