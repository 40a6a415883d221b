package engine

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/smalltcp"
)

// side is the app's side of the flow that is joined.
func (w *world) side() (isSmall bool) {
	w.t.Helper()
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	for _, f := range w.engine.joined {
		switch f.Endpoint.(type) {
		case *smalltcp.Conn:
			return true
		case *direct.App:
			return false
		}
	}
	w.t.Fatal("no flow is joined")
	return false
}

// Simple serves the flows of this machine by its own TCP, and those of others by gVisor's.
func TestWhoIsServedByWhat(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		for _, here := range []bool{true, false} {
			p := newPlayer(newWorld(t, v))
			var c *client
			if here {
				c = p.client(40001)
				c.syn()
			} else {
				c = p.synFrom(stranger(v, 1), 40001)
			}
			up := p.join(p.event(events.TCPRequest, 1).Flow, nil)
			c.answerSYNACK()
			c.transmit(header.TCPFlagAck, []byte("hello"))
			readExactly(t, up, []byte("hello"))
			if want := here && v.mode == Simple; p.side() != want {
				t.Errorf("here: %t, simple: %t", here, !want)
			}
		}
	})
}

// A segment that comes in fragments, or behind options of IPv6, reaches its flow like any
// other one: in the handshake, while it is joined, and when it has ended.
func TestSegmentsInPieces(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		id := uint16(0)
		pieces := func(flags header.TCPFlags, payload []byte) {
			whole := c.segment(flags, payload).tcp()
			id++
			if v.six {
				options := ipOptions{next: 60, options: []byte{6, 0, 1, 4, 0, 0, 0, 0}}
				p.send(ipPacket(c.local.Addr(), c.remote.Addr(), 6, whole, options))
			} else {
				p.send(ipPacket(c.local.Addr(), c.remote.Addr(), 6, whole[:64], ipOptions{more: true, identification: id}))
				p.send(ipPacket(c.local.Addr(), c.remote.Addr(), 6, whole[64:], ipOptions{fragmentOffset: 64, identification: id}))
			}
			c.seq += uint32(len(payload))
		}
		c.syn()
		up := p.join(p.event(events.TCPRequest, 1).Flow, nil)
		synAck := c.mine("a SYN-ACK", isSYNACK)
		c.seq, c.ack = c.seq+1, synAck.SequenceNumber()+1
		for range 3 {
			payload := bytes.Repeat([]byte("piece"), 20)
			pieces(header.TCPFlagAck, payload)
			readExactly(t, up, payload)
		}
		c.transmit(header.TCPFlagAck|header.TCPFlagFin, nil)
		must(t, up.Close())
		fin := c.mine("a FIN", hasFlag(header.TCPFlagFin))
		c.closed(1)
		c.ack = fin.SequenceNumber() + 1
		pieces(header.TCPFlagAck, bytes.Repeat([]byte("x"), 60)) // acknowledges, too
		p.settle()
		if v.mode == Simple {
			p.allClosed()
		}
	})
}

// A SYN that uses the ports of a flow in TIME-WAIT again is a new flow at once.
func TestTimeWaitMakesWay(t *testing.T) {
	v := variant{mode: Simple}
	p := newPlayer(newWorld(t, v))
	c := p.client(40001)
	j := c.connect(1)
	must(t, j.up.CloseWrite())
	fin := c.mine("a FIN", hasFlag(header.TCPFlagFin))
	c.ack = fin.SequenceNumber() + 1
	c.transmit(header.TCPFlagAck|header.TCPFlagFin, nil)
	p.closed(j.flow)
	c.mine("its acknowledgement", func(t header.TCP) bool { return t.AckNumber() == c.seq })
	c.seq--
	c.transmit(header.TCPFlagAck|header.TCPFlagFin, nil)
	c.mine("the same for a repeated FIN", func(t header.TCP) bool { return t.AckNumber() == c.seq })
	c.seq += 100000
	c.syn()
	p.event(events.TCPRequest, 2)
}

// TIME-WAIT holds the last flows only.
func TestTimeWaitIsBounded(t *testing.T) {
	p := newPlayer(newWorld(t, variant{mode: Simple}))
	l := p.engine.linger
	for i := range 3 * timeWaits {
		c := p.client(uint16(20000 + i))
		j := c.connect(i + 1)
		must(t, j.up.CloseWrite())
		fin := c.mine("a FIN", hasFlag(header.TCPFlagFin))
		c.ack = fin.SequenceNumber() + 1
		c.transmit(header.TCPFlagAck|header.TCPFlagFin, nil)
		p.closed(j.flow)
		_ = j.up.Close()
	}
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	if n := len(l.waits); n != timeWaits {
		t.Errorf("%d wait", n)
	}
}

// A flow of Simple's for which there is no room while it closes is reset: nothing would find
// it any more.
func TestNoRoomToClose(t *testing.T) {
	p := newPlayer(newWorld(t, variant{mode: Simple}))
	p.engine.linger.limit = 0
	c := p.client(40001)
	c.fallen(1)
	c.mine("a reset", hasFlag(header.TCPFlagRst))
	p.allClosed()
}

// An idle app is asked whether it is still there, and its flow ends when it is not.
func TestSimpleKeepsAlive(t *testing.T) {
	p := newPlayer(newWorld(t, variant{mode: Simple}))
	c := p.client(40001)
	j := c.connect(1)
	for range keepAliveLooks + 1 {
		p.engine.lookAtIdle()
	}
	c.mine("a question", func(t header.TCP) bool { return t.SequenceNumber() == c.ack-1 })
	for range 5 * keepAliveLooks {
		p.engine.lookAtIdle()
	}
	if e := p.closed(j.flow); e.Error == 0 {
		t.Error("no error")
	}
	expectReset(t, j.up)
}
