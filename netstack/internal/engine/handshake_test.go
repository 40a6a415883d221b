package engine

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// pair is a socket for Join, and its other end.
func pair(t *testing.T) (fd, other int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// Many half-open flows, and then as many established ones, need no goroutine.
func TestHandshakesNeedNoGoroutine(t *testing.T) {
	const flows = 500
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.FlowLimit, c.HalfOpenLimit = 2*flows, 2*flows }))
		p.stillWorks(50000)
		before := runtime.NumGoroutine()
		clients := make([]*client, flows)
		for i := range clients {
			clients[i] = p.client(uint16(40000 + i))
			clients[i].syn()
			fd, _ := pair(t)
			flow := p.event(events.TCPRequest, i+2).Flow
			p.do(func(e *Engine) { must(t, e.Join(flow, fd, nil, 0)) })
		}
		eventually(t, "all to be half-open", func() bool { return p.stats().HalfOpen == flows })
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
		for range clients { // in the order in which the loops have come to them
			synAck := p.match("a SYN-ACK", func(r received) bool {
				return r.tcp != nil && isSYNACK(r.tcp) && clients[r.tcp.DestinationPort()-40000].ack == 0
			}).tcp
			c := clients[synAck.DestinationPort()-40000]
			c.seq, c.ack = c.seq+1, synAck.SequenceNumber()+1
			c.transmit(header.TCPFlagAck, nil)
		}
		eventually(t, "all to be established", func() bool { return p.stats().Flows == flows+1 })
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
	})
}

// deciding sets who answers requests.
func (w *world) deciding(decide func(events.Event)) {
	w.t.Helper()
	w.do(func(*Engine) { w.decide = decide })
}

// withoutProcessors has the stack's processors do nothing: what is not handled by the thread
// that reads it never is.
func (w *world) withoutProcessors() {
	w.engine.stack.Pause()
	w.t.Cleanup(w.engine.stack.Resume)
}

// A flow begins, carries and ends in every order without the processors of the stack.
func TestAllInPlace(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		for _, lend := range []bool{false, true} {
			w := newWorld(t, v)
			w.withoutProcessors()
			w.do(func(*Engine) { w.lend = lend })
			a := newApp(w)
			for range 3 {
				j := a.open([]byte("leftover"))
				readExactly(t, j.app, []byte("leftover"))
				exchange(t, j.app, j.up, 300000, 300000) // both ends at once
				a.closed(j.flow)
			}
			for _, appFirst := range []bool{true, false} {
				j := a.open(nil)
				var first, second halfCloser = j.app, j.up
				if !appFirst {
					first, second = j.up, j.app
				}
				must(t, first.CloseWrite())
				_, err := io.ReadAll(second)
				must(t, err)
				must(t, second.CloseWrite())
				_, err = io.ReadAll(first)
				must(t, err)
				a.closed(j.flow)
			}
			a.allClosed()
		}
	})
}

// allClosed waits until no endpoint is left, and nothing that lingers.
func (w *world) allClosed() {
	w.t.Helper()
	eventually(w.t, "all endpoints to be closed", func() bool { return len(w.engine.stack.RegisteredEndpoints()) == 0 })
	eventually(w.t, "all records to be gone", func() (gone bool) {
		w.do(func(e *Engine) {
			e.mu.Lock()
			defer e.mu.Unlock()
			gone = len(e.opening)+len(e.joined)+len(e.linger.flows)+e.half.order.Len() == 0
		})
		return gone
	})
}

// What comes with the app's ACK reaches the upstream: data, and an end.
func TestDataWithTheACK(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		w.withoutProcessors()
		p := newPlayer(w)
		for i, flags := range []header.TCPFlags{header.TCPFlagAck | header.TCPFlagPsh, header.TCPFlagAck | header.TCPFlagFin} {
			c := p.client(uint16(40001 + i))
			c.syn()
			up := p.join(p.event(events.TCPRequest, i+1).Flow, nil)
			synAck := c.mine("a SYN-ACK", isSYNACK)
			c.seq, c.ack = c.seq+1, synAck.SequenceNumber()+1
			c.transmit(flags, []byte("early"))
			readExactly(t, up, []byte("early"))
			if i == 1 {
				if n, err := up.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("after the end: %d, %v", n, err)
				}
			}
		}
	})
}

// A SYN-ACK that is lost is sent again, and the flow can still be used.
func TestLostSYNACK(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.syn()
		up := p.join(p.event(events.TCPRequest, 1).Flow, nil)
		lost := c.mine("a SYN-ACK", isSYNACK)
		again := c.mine("another SYN-ACK", isSYNACK)
		if lost.SequenceNumber() != again.SequenceNumber() {
			t.Errorf("%v, and then %v", lost, again)
		}
		c.seq, c.ack = c.seq+1, again.SequenceNumber()+1
		c.transmit(header.TCPFlagAck, nil)
		c.transmit(header.TCPFlagAck, []byte("hello"))
		readExactly(t, up, []byte("hello"))
	})
}

// A repeated SYN makes no second flow, before the SYN-ACK and after it.
func TestRepeatedSYNInTheHandshake(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		gate := make(chan struct{})
		for _, loop := range p.engine.loops {
			loop.Call(func() { <-gate })
		}
		c := p.client(40001)
		c.syn()
		up := p.join(p.event(events.TCPRequest, 1).Flow, nil)
		c.syn()
		p.settle()
		close(gate)
		synAck := c.mine("a SYN-ACK", isSYNACK)
		c.syn()
		c.mine("an acknowledgement", func(t header.TCP) bool { return t.AckNumber() == c.seq+1 })
		c.seq, c.ack = c.seq+1, synAck.SequenceNumber()+1
		c.transmit(header.TCPFlagAck, []byte("hello"))
		readExactly(t, up, []byte("hello"))
		if n := len(p.events(events.TCPRequest)); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// Somebody who has not seen the SYN-ACK cannot complete the handshake of a made-up address,
// and gets to be no known party.
func TestACKOfSomethingElse(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(1024, hasty())))
		c := p.synFrom(stranger(v, 1), 40001)
		_ = p.join(p.event(events.TCPRequest, 1).Flow, nil)
		synAck := c.mine("a SYN-ACK", isSYNACK)
		c.seq++
		for _, wrong := range []uint32{0, synAck.SequenceNumber(), synAck.SequenceNumber() + 2, synAck.SequenceNumber() + 1<<31} {
			c.ack = wrong
			c.transmit(header.TCPFlagAck, nil)
			if r := c.mine("a reset", hasFlag(header.TCPFlagRst)); r.SequenceNumber() != wrong {
				t.Errorf("a reset at %d, not %d", r.SequenceNumber(), wrong)
			}
		}
		if s := p.stats(); s.HalfOpen != 1 || s.Flows != 0 || p.known() != 0 {
			t.Errorf("half-open %d, flows %d, known %d", s.HalfOpen, s.Flows, p.known())
		}
		if !v.six { // in pieces, which the stack puts together
			c.ack = 12345
			whole := c.segment(header.TCPFlagAck, make([]byte, 60)).tcp()
			p.send(ipPacket(c.local.Addr(), c.remote.Addr(), 6, whole[:64], ipOptions{more: true, identification: 7}))
			p.send(ipPacket(c.local.Addr(), c.remote.Addr(), 6, whole[64:], ipOptions{fragmentOffset: 64, identification: 7}))
			eventually(t, "the stack to take it", func() bool { return p.stats().Flows == 1 })
			if n := p.known(); n != 0 {
				t.Errorf("%d are known", n)
			}
			return
		}
		c.ack = synAck.SequenceNumber() + 1
		c.transmit(header.TCPFlagAck, nil)
		eventually(t, "the real one to be established", func() bool { return p.stats().Flows == 1 && p.known() == 1 })
	})
}

// known is how many machines have completed a connection.
func (w *world) known() int {
	w.engine.parties.mu.Lock()
	defer w.engine.parties.mu.Unlock()
	return len(w.engine.parties.known)
}

// An app that gives up in its handshake, in any way, leaves nothing.
func TestGivesUpInTheHandshake(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		p.stillWorks(50000)
		goroutines, fds := runtime.NumGoroutine(), openFDs(t)
		for i, how := range []string{"reset", "another SYN", "error", "reset with the ACK"} {
			c := p.client(uint16(40001 + i))
			c.syn()
			flow := p.event(events.TCPRequest, i+2).Flow
			fd, other := pair(t)
			p.do(func(e *Engine) { must(t, e.Join(flow, fd, nil, 0)) })
			synAck := c.match("a SYN-ACK", func(r received) bool { return r.tcp != nil && isSYNACK(r.tcp) })
			c.seq, c.ack = c.seq+1, synAck.tcp.SequenceNumber()+1
			switch how {
			case "reset":
				c.transmit(header.TCPFlagRst, nil)
			case "another SYN":
				c.seq += 5000
				c.syn()
			case "error":
				p.send(unreachable(synAck.packet))
			case "reset with the ACK":
				c.transmit(header.TCPFlagAck, nil)
				c.transmit(header.TCPFlagRst, nil)
			}
			if e := p.closed(flow); e.Error == 0 {
				t.Errorf("%s: no error", how)
			}
			if n, err := unix.Read(other, make([]byte, 1)); n != 0 && err == nil {
				t.Errorf("%s: the upstream's socket reads %d", how, n)
			}
			_ = unix.Close(other)
		}
		eventually(t, "nothing to be left", func() bool { s := p.stats(); return s.HalfOpen == 0 && s.Flows == 1 })
		settled(t, goroutines, fds)
	})
}

// unreachable is the ICMP error with which a host answers a packet that it has no port for.
func unreachable(packet []byte) []byte {
	version := header.IPVersion(packet)
	if version == header.IPv6Version {
		ip := header.IPv6(packet)
		b := make([]byte, header.ICMPv6DstUnreachableMinimumSize+len(packet))
		icmp := header.ICMPv6(b)
		icmp.SetType(header.ICMPv6DstUnreachable)
		icmp.SetCode(header.ICMPv6PortUnreachable)
		copy(b[header.ICMPv6DstUnreachableMinimumSize:], packet)
		icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: ip.DestinationAddress(), Dst: ip.SourceAddress()}))
		from, _ := netip.AddrFromSlice(ip.DestinationAddressSlice())
		to, _ := netip.AddrFromSlice(ip.SourceAddressSlice())
		return ipPacket(from, to, uint8(header.ICMPv6ProtocolNumber), b, ipOptions{})
	}
	ip := header.IPv4(packet)
	b := make([]byte, header.ICMPv4MinimumSize+len(packet))
	icmp := header.ICMPv4(b)
	icmp.SetType(header.ICMPv4DstUnreachable)
	icmp.SetCode(header.ICMPv4PortUnreachable)
	copy(b[header.ICMPv4MinimumSize:], packet)
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, 0))
	from, _ := netip.AddrFromSlice(ip.DestinationAddressSlice())
	to, _ := netip.AddrFromSlice(ip.SourceAddressSlice())
	return ipPacket(from, to, uint8(header.ICMPv4ProtocolNumber), b, ipOptions{})
}

// Segments of any kind in the handshake do no harm: each flow ends in the table of
// established ones, in that of half-open ones or in none, and an ordinary one works.
func TestHostileHandshake(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v, func(c *Config) { c.FlowLimit, c.HalfOpenLimit = 1000, 1000 })
		w.deciding(func(e events.Event) {
			fd, _ := pair(t)
			_ = w.engine.Join(e.Flow, fd, nil, 0)
		})
		p := newPlayer(w)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 64 {
			c := p.client(uint16(40000 + i))
			c.syn()
			synAck := c.mine("a SYN-ACK", isSYNACK)
			for range 4 {
				s := c.segment(header.TCPFlags(random.IntN(256)), make([]byte, random.IntN(20)))
				s.seq += uint32(random.IntN(3))
				s.ack = pick(random.IntN(2) == 0, synAck.SequenceNumber()+1, random.Uint32())
				s.options = make([]byte, 4*random.IntN(4))
				for k := range s.options {
					s.options[k] = byte(random.IntN(6))
				}
				p.send(s.packet())
			}
		}
		p.mark(func(received) {})
		w.deciding(nil)
		p.stillWorks(51000)
		p.do(func(e *Engine) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if n := len(e.opening); n != e.half.order.Len() {
				t.Errorf("%d are half-open, and %d in their order", n, e.half.order.Len())
			}
			for _, f := range e.opening {
				if f.handshake == nil || f.givenUp != 0 {
					t.Errorf("%+v", f)
				}
			}
		})
	})
}

// shortFlows opens flows that each carry a few bytes both ways and end in order, the
// upstream first or the app first.
func (p *player) shortFlows(first, count int) {
	p.t.Helper()
	clients := make(map[uint16]*client, count)
	for i := range count {
		c := p.client(uint16(first + i))
		clients[c.local.Port()] = c
		c.syn()
	}
	for ended := 0; ended < count; {
		r := p.next()
		if r.tcp == nil {
			continue
		}
		c := clients[r.tcp.DestinationPort()]
		if c == nil { // of the flows before
			continue
		}
		switch flags := r.tcp.Flags(); {
		case flags.Contains(header.TCPFlagRst):
			p.t.Fatalf("%s", r)
		case flags.Contains(header.TCPFlagSyn) && c.ack != 0: // the machine was slow to take the ACK
		case flags.Contains(header.TCPFlagSyn):
			c.seq, c.ack = c.seq+1, r.tcp.SequenceNumber()+1
			c.transmit(header.TCPFlagAck, nil)
			end := pick(c.local.Port()%2 == 0, header.TCPFlagFin, header.TCPFlags(0))
			c.transmit(header.TCPFlagAck|header.TCPFlagPsh|end, []byte("request"))
		case r.tcp.SequenceNumber() == c.ack && (len(r.tcp.Payload()) > 0 || flags.Contains(header.TCPFlagFin)):
			c.ack += uint32(len(r.tcp.Payload()))
			if !flags.Contains(header.TCPFlagFin) {
				c.transmit(header.TCPFlagAck, nil)
				continue
			}
			c.ack++
			end := pick(c.local.Port()%2 == 0, header.TCPFlags(0), header.TCPFlagFin)
			c.transmit(header.TCPFlagAck|end, nil)
			ended++
		}
	}
}

// Many short flows leave no record, endpoint, goroutine, fd or memory behind.
func TestShortFlowsLeaveNothing(t *testing.T) {
	const batch, batches = 100, 100
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v, func(c *Config) { c.FlowLimit, c.HalfOpenLimit = 1000, 1000 })
		var others []int
		w.deciding(func(e events.Event) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			_, err = unix.Write(fds[1], []byte("answer"))
			must(t, err)
			must(t, unix.Shutdown(fds[1], unix.SHUT_WR))
			must(t, w.engine.Join(e.Flow, fds[0], nil, 0))
			others = append(others, fds[1])
		})
		w.withoutProcessors()
		p := newPlayer(w)
		run := func(i int) {
			p.shortFlows(1024+i*batch, batch)
			w.allClosed()
			w.do(func(*Engine) {
				for _, fd := range others {
					_ = unix.Close(fd)
				}
				others = others[:0]
			})
			w.mu.Lock()
			w.log = nil
			w.mu.Unlock()
		}
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC() // for what pools keep
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		run(0)
		goroutines, fds, before := runtime.NumGoroutine(), openFDs(t), heap()
		for i := range batches {
			run(1 + i)
		}
		settled(t, goroutines, fds)
		if after := heap(); after > before+1<<20 {
			t.Errorf("%d bytes, and %d before", after, before)
		}
	})
}
