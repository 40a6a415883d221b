package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
)

type icmpAnswer struct{ kind, code byte }

// datagramRefusals are what each refusal looks like in IPv4 (RFC 792, 1812) and
// IPv6 (RFC 4443).
var datagramRefusals = map[Refusal][2]icmpAnswer{
	RefuseReset:           {{3, 3}, {1, 4}},
	RefusePortUnreachable: {{3, 3}, {1, 4}},
	RefuseHostUnreachable: {{3, 1}, {1, 3}},
	RefuseNetUnreachable:  {{3, 0}, {1, 0}},
	RefuseProhibited:      {{3, 13}, {1, 1}},
}

// expectRefusal fails unless r is an ICMP error of that kind about a datagram of
// this flow: with the quote the app's kernel finds the socket.
func (p *player) expectRefusal(r received, how Refusal, app, far netip.AddrPort) {
	p.t.Helper()
	want := pick(p.v.six, datagramRefusals[how][1], datagramRefusals[how][0])
	protocol := pick(p.v.six, header.ICMPv6ProtocolNumber, header.ICMPv4ProtocolNumber)
	if r.protocol != uint8(protocol) || r.payload[0] != want.kind || r.payload[1] != want.code {
		p.t.Fatalf("refusal %d: %s, not type %d code %d", how, r, want.kind, want.code)
	}
	if r.source != far.Addr() && r.source != p.v.gateway() || r.destination != app.Addr() {
		p.t.Errorf("refusal %d: from %s to %s", how, r.source, r.destination)
	}
	quoted := r.payload[8:]
	var source, destination netip.Addr
	var next uint8
	var udp []byte
	if p.v.six {
		ip := header.IPv6(quoted)
		source, _ = netip.AddrFromSlice(ip.SourceAddressSlice())
		destination, _ = netip.AddrFromSlice(ip.DestinationAddressSlice())
		next, udp = ip.NextHeader(), quoted[header.IPv6MinimumSize:]
	} else {
		ip := header.IPv4(quoted)
		if !ip.IsChecksumValid() {
			p.t.Errorf("refusal %d: the quote's checksum", how)
		}
		source, _ = netip.AddrFromSlice(ip.SourceAddressSlice())
		destination, _ = netip.AddrFromSlice(ip.DestinationAddressSlice())
		next, udp = ip.Protocol(), quoted[ip.HeaderLength():]
	}
	if source != app.Addr() || destination != far.Addr() || next != 17 || len(udp) < 8 ||
		binary.BigEndian.Uint16(udp) != app.Port() || binary.BigEndian.Uint16(udp[2:]) != far.Port() {
		p.t.Errorf("refusal %d: quotes % x", how, quoted[:min(len(quoted), 64)])
	}
}

// A refused flow hears of it at once, and again for each datagram.
func TestRefuseDatagrams(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		refused := uint64(0)
		for how := range datagramRefusals {
			far = netip.AddrPortFrom(far.Addr(), far.Port()+1)
			request := p.datagramFlow(app, far, pattern(0, 1000))
			p.do(func(e *Engine) { must(t, e.Refuse(request.Flow, how)) })
			refused++
			p.expectRefusal(p.next(), how, app, far)
			p.silence()
			for _, size := range []int{0, 1400} {
				p.sendDatagram(app, far, pattern(0, size))
				p.expectRefusal(p.next(), how, app, far)
			}
		}
		p.silence()
		if s := p.stats(); s.Refused != refused || len(p.events(events.UDPRequest)) != int(refused) {
			t.Errorf("%d requests: %+v", len(p.events(events.UDPRequest)), s)
		}
	})
}

// A datagram in fragments and several in one packet are refused like others.
func TestRefuseOddDatagrams(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		request := p.datagramFlow(app, far, nil)
		p.do(func(e *Engine) { must(t, e.Refuse(request.Flow, RefuseHostUnreachable)) })
		p.expectRefusal(p.next(), RefuseHostUnreachable, app, far)
		p.sendFragments(app, far, pattern(0, 4000), 1000, 7)
		p.expectRefusal(p.next(), RefuseHostUnreachable, app, far)
		if v.vnet {
			p.sendSegmented(app, far, pattern(0, 4000), 1000)
			p.expectRefusal(p.next(), RefuseHostUnreachable, app, far)
		}
		p.silence()
	})
}

// A reason that is none does no harm.
func TestRefuseDatagramsWithoutAReason(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		for i, how := range []Refusal{0, 6, 1 << 31} {
			request := p.datagramFlow(app, netip.AddrPortFrom(far.Addr(), uint16(7000+i)), []byte("x"))
			p.do(func(e *Engine) { _ = e.Refuse(request.Flow, how) })
			p.sendDatagram(app, netip.AddrPortFrom(far.Addr(), uint16(7000+i)), []byte("y"))
		}
		p.silence()
	})
}

// A dropped flow hears nothing; that and a refusal are forgotten after two
// seconds, also when datagrams go on coming.
func TestVerdictsAreForgotten(t *testing.T) {
	const life, sweep = 2 * time.Second, 60 * time.Millisecond
	quick := func(c *Config) { c.UDPTimeout = 400 * time.Millisecond }
	for _, refuse := range []bool{true, false} {
		t.Run(pick(refuse, "refuse", "drop"), func(t *testing.T) {
			t.Parallel()
			v := families()[0]
			p := newPlayer(newWorld(t, v, quick))
			app, far := v.ends()
			request := p.datagramFlow(app, far, []byte("x"))
			began := time.Now()
			p.do(func(e *Engine) {
				if refuse {
					must(t, e.Refuse(request.Flow, RefusePortUnreachable))
				} else {
					must(t, e.Drop(request.Flow))
				}
			})
			for len(p.events(events.UDPRequest)) == 1 {
				if time.Since(began) > patience {
					t.Fatal("it is never forgotten")
				}
				p.sendDatagram(app, far, []byte("x"))
				p.mark(func(r received) {
					if !refuse {
						t.Errorf("this came out: %s", r)
					}
				})
				<-time.After(20 * time.Millisecond)
			}
			if took := time.Since(began); took < life-sweep {
				t.Errorf("it was forgotten after %s", took)
			}
			if s := p.stats(); s.DatagramFlows != 1 || s.DropUndecided != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A dropped flow is silent both ways, and is no flow that an association could
// take.
func TestDropDatagrams(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		request := p.datagramFlow(app, far, []byte("x"))
		w.do(func(e *Engine) { must(t, e.Drop(request.Flow)) })
		id := w.associate(o.relayLeg(), datagram.Socks5, false)
		if err := w.attach(request.Flow, id); err == nil {
			t.Error("a dropped flow was attached")
		}
		p.sendDatagram(app, far, []byte("y"))
		p.silence()
		o.silence()
	})
}
