package engine

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// refused sends a SYN, refuses it, and returns the SYN and the answer.
func refused(p *player, c *client, how Refusal) (syn []byte, answer received) {
	p.t.Helper()
	s := c.segment(header.TCPFlagSyn, nil)
	s.options = []byte{2, 4, 5, 0xb4 - 40, 1, 3, 3, 7}
	before := len(p.events(events.TCPRequest))
	p.send(s.packet())
	request := p.event(events.TCPRequest, before+1)
	p.do(func(e *Engine) { must(p.t, e.Refuse(request.Flow, how)) })
	answer = p.next()
	p.silence()
	return s.packet(), answer
}

// A refusal with a reset is the RST of a closed port: from the destination,
// sequence 0, acknowledging the SYN (RFC 9293, 3.10.7.1).
func TestRefuseWithAReset(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		_, r := refused(p, c, RefuseReset)
		if r.tcp == nil || r.source != c.remote.Addr() || r.destination != c.local.Addr() ||
			r.tcp.SourcePort() != c.remote.Port() || r.tcp.DestinationPort() != c.local.Port() {
			t.Fatalf("the answer is %s", r)
		}
		if r.tcp.Flags() != header.TCPFlagRst|header.TCPFlagAck || r.tcp.SequenceNumber() != 0 || r.tcp.AckNumber() != c.seq+1 {
			t.Errorf("the answer is %s", r)
		}
		if s := p.stats(); s.Refused != 1 || s.Pending != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// A refusal with ICMP has the type and code asked for, comes from the
// destination or the gateway before it, and quotes the SYN as it was sent.
func TestRefuseWithICMP(t *testing.T) {
	type answer struct{ kind, code byte }
	table := map[Refusal][2]answer{ // IPv4 (RFC 792, 1812), IPv6 (RFC 4443)
		RefuseHostUnreachable: {{3, 1}, {1, 3}},
		RefuseNetUnreachable:  {{3, 0}, {1, 0}},
		RefuseProhibited:      {{3, 13}, {1, 1}},
	}
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		port := uint16(40001)
		for how, answers := range table {
			c := p.client(port)
			port++
			syn, r := refused(p, c, how)
			want := pick(v.six, answers[1], answers[0])
			protocol := pick(v.six, header.ICMPv6ProtocolNumber, header.ICMPv4ProtocolNumber)
			if r.protocol != uint8(protocol) || r.payload[0] != want.kind || r.payload[1] != want.code {
				t.Errorf("refusal %d: %s, not type %d code %d", how, r, want.kind, want.code)
			}
			router := r.source == c.remote.Addr() || r.source == v.gateway()
			if !router || r.destination != c.local.Addr() {
				t.Errorf("refusal %d: from %s to %s", how, r.source, r.destination)
			}
			if quoted := r.payload[8:]; !bytes.Equal(quoted, syn) {
				t.Errorf("refusal %d: quotes\n% x, not\n% x", how, quoted, syn)
			}
		}
	})
}

// A refused port can be asked for again at once.
func TestRefusedIsForgotten(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		for range 3 {
			refused(p, c, RefuseReset)
		}
	})
}

// Drop says nothing, and the app's next SYN, the same one, is a new request.
func TestDrop(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		c.syn()
		first := p.event(events.TCPRequest, 1)
		p.do(func(e *Engine) { must(t, e.Drop(first.Flow)) })
		p.silence()
		c.syn()
		if second := p.event(events.TCPRequest, 2); second.Flow == first.Flow {
			t.Error("the number was used again")
		}
		p.silence()
	})
}

// Every refusal of a stream of them comes out once the stack has been up for a
// moment: a port scan through a dead proxy sees honest errors.
func TestManyRefusals(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		w.do(func(e *Engine) {
			w.decide = func(event events.Event) { _ = e.Refuse(event.Flow, RefuseHostUnreachable) }
		})
		// The stack's allowance begins nearly empty and is full after this.
		<-time.After(icmpBurst * time.Second / icmpPerSecond)
		const ports = 500
		for i := range uint16(ports) {
			c := p.client(30000 + i)
			c.remote = netip.AddrPortFrom(v.far(), 1+i)
			c.syn()
		}
		answers := 0
		p.mark(func(received) { answers++ })
		if answers != ports {
			t.Errorf("%d answers to %d refusals", answers, ports)
		}
	})
}
