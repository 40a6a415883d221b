package engine

import (
	"bytes"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// player is an app made of single packets: the test says what goes in and
// looks at each packet that comes out. It checks every checksum on the way.
type player struct {
	*world
	sent uint64 // packets written to the device
	echo uint16
	raw  []byte

	inbox inbox
}

func newPlayer(w *world) *player { return &player{world: w, raw: make([]byte, 70000)} }

// send writes a packet to the device.
func (p *player) send(packet []byte) {
	p.t.Helper()
	if p.v.vnet {
		packet = append(make([]byte, virtioSize), packet...)
	}
	p.sendRaw(packet)
}

// sendRaw writes a packet with its virtio header, if there are any.
func (p *player) sendRaw(raw []byte) {
	p.t.Helper()
	for {
		err := unix.Send(p.far, raw, unix.MSG_NOSIGNAL)
		if err == nil {
			break
		}
		if err != unix.EAGAIN {
			p.t.Fatalf("cannot write to the device: %s", err)
		}
		p.settle() // the device is full
	}
	p.sent++
}

// settle waits until the engine has taken in all that was sent, and the pump's
// thread is done with it.
func (p *player) settle() {
	p.t.Helper()
	eventually(p.t, "the engine to read the device", func() bool { return p.engine.link.PacketsIn.Load() >= p.sent })
	p.do(func(*Engine) {})
}

// take returns the next packet, or false when there is none now.
func (p *player) take() (received, bool) {
	p.t.Helper()
	for {
		n, err := unix.Read(p.far, p.raw)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return received{}, false
		case err != nil:
			p.t.Fatalf("cannot read the device: %s", err)
		}
		r, err := dissect(bytes.Clone(p.raw[:n]), p.v.vnet)
		if err != nil {
			p.t.Fatalf("a bad packet came out: %s\n% x", err, p.raw[:n])
		}
		return r, true
	}
}

// next waits for the next packet.
func (p *player) next() received {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if r, ok := p.take(); ok {
			return r
		}
		left := time.Until(deadline)
		if left <= 0 {
			p.t.Fatalf("no packet comes out; closed: %+v\n%s", p.events(3), stacks())
		}
		fds := []unix.PollFd{{Fd: int32(p.far), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, int(left.Milliseconds())+1)
	}
}

// match waits for a packet that fits, and throws others away.
func (p *player) match(what string, fits func(received) bool) received {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if r := p.next(); fits(r) {
			return r
		}
	}
	p.t.Fatalf("no packet is %s", what)
	panic("unreachable")
}

// silence fails if anything comes out of what was sent so far. An echo of the
// gateway is the mark behind it: packets keep their order.
func (p *player) silence() {
	p.t.Helper()
	p.mark(func(r received) { p.t.Errorf("this came out: %s", r) })
}

// mark waits until the engine is through with what was sent so far, and shows
// what came out of it.
func (p *player) mark(seen func(received)) {
	p.t.Helper()
	p.echo++
	p.send(echoPacket(p.v.app(), p.v.gateway(), p.echo, []byte("mark")))
	for {
		r := p.next()
		if r.tcp == nil && r.source == p.v.gateway() && bytes.HasSuffix(r.payload, []byte("mark")) {
			break
		}
		seen(r)
	}
	p.settle()
	// Flows are told of after the packets behind them have been read.
	for r, ok := p.take(); ok; r, ok = p.take() {
		seen(r)
	}
}

// client is one TCP connection, played by hand.
type client struct {
	*player
	local, remote netip.AddrPort
	seq, ack      uint32
	scale         uint8 // of the engine's windows
}

func (p *player) client(port uint16) *client {
	return &client{
		player: p, seq: 1000 * uint32(port),
		local: netip.AddrPortFrom(p.v.app(), port), remote: netip.AddrPortFrom(p.v.far(), 443),
	}
}

func (c *client) segment(flags header.TCPFlags, payload []byte) segment {
	return segment{source: c.local, destination: c.remote, seq: c.seq, ack: c.ack, flags: flags, payload: payload}
}

// transmit sends a segment and goes on behind it.
func (c *client) transmit(flags header.TCPFlags, payload []byte) {
	c.t.Helper()
	c.send(c.segment(flags, payload).packet())
	c.seq += uint32(len(payload))
	if flags.Contains(header.TCPFlagFin) {
		c.seq++
	}
}

// synOptions are MSS 1400, no-operation, window scale 7.
var synOptions = []byte{2, 4, 5, 0x78, 1, 3, 3, 7}

// syn sends the first segment; seq stays at the ISN.
func (c *client) syn() {
	c.t.Helper()
	s := c.segment(header.TCPFlagSyn, nil)
	s.options = synOptions
	c.send(s.packet())
}

// mine waits for a segment of this connection.
func (c *client) mine(what string, fits func(header.TCP) bool) header.TCP {
	c.t.Helper()
	return c.match(what, func(r received) bool {
		return r.tcp != nil && r.source == c.remote.Addr() && r.destination == c.local.Addr() &&
			r.tcp.SourcePort() == c.remote.Port() && r.tcp.DestinationPort() == c.local.Port() && fits(r.tcp)
	}).tcp
}

// answerSYNACK finishes the handshake that a join began.
func (c *client) answerSYNACK() {
	c.t.Helper()
	synAck := c.mine("a SYN-ACK", func(t header.TCP) bool { return t.Flags() == header.TCPFlagSyn|header.TCPFlagAck })
	if synAck.AckNumber() != c.seq+1 {
		c.t.Fatalf("the SYN-ACK acknowledges %d, not %d", synAck.AckNumber(), c.seq+1)
	}
	c.scale = uint8(max(header.ParseSynOptions(synAck.Options(), true).WS, 0))
	c.seq, c.ack = c.seq+1, synAck.SequenceNumber()+1
	c.transmit(header.TCPFlagAck, nil)
}

func hasFlag(flag header.TCPFlags) func(header.TCP) bool {
	return func(t header.TCP) bool { return t.Flags().Contains(flag) }
}
