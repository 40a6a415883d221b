package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// hosts is addresses that one host each could have, but not the gateway.
func hosts(v variant) []netip.Addr {
	if v.six {
		return []netip.Addr{farAddress6, gatewayAddress6.Next().Next(), netip.MustParseAddr("fe80::1")}
	}
	return []netip.Addr{farAddress4, netip.MustParseAddr("198.18.0.5"), netip.MustParseAddr("10.0.0.0")}
}

// nobody is addresses that are no single host's.
func nobody(v variant) []netip.Addr {
	texts := pick(v.six, []string{"ff02::1", "ff0e::1", "::"},
		[]string{"198.18.0.0", "198.18.0.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "0.0.0.0"})
	found := make([]netip.Addr, 0, len(texts))
	for _, text := range texts {
		found = append(found, netip.MustParseAddr(text))
	}
	return found
}

// icmpPacket is ICMP of a kind with a right checksum.
func icmpPacket(source, destination netip.Addr, kind byte, body []byte) []byte {
	protocol, b := echoBytes(source, destination, 1, body)
	b[0] = kind
	binary.BigEndian.PutUint16(b[2:], 0)
	sum := uint16(0)
	if source.Is6() {
		sum = pseudo(source, destination, protocol, len(b))
	}
	binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, sum))
	return ipPacket(source, destination, protocol, b, ipOptions{})
}

// expectProhibited wants "administratively prohibited" about a packet, from the gateway.
func (p *player) expectProhibited(what string, asker netip.Addr, packet []byte) {
	p.t.Helper()
	r := p.next()
	protocol := pick(p.v.six, header.ICMPv6ProtocolNumber, header.ICMPv4ProtocolNumber)
	want := pick(p.v.six, [2]byte{1, 1}, [2]byte{3, 13})
	if r.protocol != uint8(protocol) || [2]byte(r.payload[:2]) != want {
		p.t.Errorf("%s: the answer is %s", what, r)
	}
	if r.source != p.v.gateway() || r.destination != asker {
		p.t.Errorf("%s: from %s to %s", what, r.source, r.destination)
	}
	limit := pick(p.v.six, 1280, 576)
	if size := len(r.packet); size > limit || size < limit && len(r.payload)-8 != len(packet) {
		p.t.Errorf("%s: an answer of %d bytes to %d", what, size, len(packet))
	}
	if !bytes.HasPrefix(packet, r.payload[8:]) {
		p.t.Errorf("%s: quotes\n% x, not\n% x", what, r.payload[8:], packet)
	}
}

// A ping of any other host is prohibited by the gateway at once, whoever reads the
// device: an answer in that host's name would be a lie, and silence costs the user time.
func TestPingOfOtherHosts(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		for _, lend := range []bool{false, true} {
			w := newWorld(t, v)
			w.do(func(*Engine) { w.lend = lend })
			p := newPlayer(w)
			for _, host := range hosts(v) {
				ping := echoPacket(v.app(), host, 7, []byte("hello"))
				p.send(ping)
				p.expectProhibited(host.String(), v.app(), ping)
			}
			p.silence()
		}
	})
}

// The same holds for every other ICMP query (RFC 792, 950, 4620, 8335).
func TestOtherQueries(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		for _, kind := range pick(v.six, []byte{139, 160}, []byte{13, 15, 17, 42}) {
			query := icmpPacket(v.app(), v.far(), kind, make([]byte, 12))
			p.send(query)
			p.expectProhibited("a query", v.app(), query)
		}
		p.silence()
	})
}

// A ping in fragments is prohibited once, and one behind other headers like any other.
func TestOddPingOfOtherHosts(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		odd := oddPings(v, v.far())
		for _, packet := range odd {
			p.send(packet)
		}
		p.expectProhibited("the first fragment", v.app(), odd[0])
		p.expectProhibited("the odd one", v.app(), odd[2])
		p.silence()
	})
}

// Nobody is told of a query to or from no single host, nor of errors, replies and what
// hosts say on their link (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)).
func TestNotProhibited(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		for _, address := range nobody(v) {
			p.send(echoPacket(v.app(), address, 7, []byte("hello")))
			p.send(echoPacket(address, v.far(), 7, []byte("hello")))
			for _, packet := range oddPings(v, address) {
				p.send(packet)
			}
		}
		p.send(echoPacket(v.gateway(), v.far(), 7, []byte("hello")))
		quoted := segment{
			source: netip.AddrPortFrom(v.app(), 1), destination: netip.AddrPortFrom(v.far(), 2),
		}.packet()
		for _, kind := range pick(v.six, []byte{1, 2, 3, 4, 129, 140, 161}, []byte{0, 3, 4, 5, 11, 12, 14, 16, 18, 43}) {
			p.send(icmpPacket(v.app(), v.far(), kind, quoted))
		}
		p.silence()
	})
}

// A ping with a wrong checksum is no ping.
func TestPingWithAWrongChecksum(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		ping := echoPacket(v.app(), v.far(), 7, []byte("hello"))
		ping[len(ping)-1] ^= 1
		p.send(ping)
		p.silence()
		if n := p.engine.link.BadChecksum.Load(); n != 1 {
			t.Errorf("%d wrong checksums", n)
		}
	})
}

// An error about the largest ping fits every link: 576 bytes, over IPv6 1280.
func TestPingAsLargeAsTheMTU(t *testing.T) {
	const mtu = 9000
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, func(c *Config) { c.MTU = mtu }))
		ping := echoPacket(v.app(), v.far(), 7, bytes.Repeat([]byte("x"), mtu-48))
		p.send(ping)
		p.expectProhibited("a large ping", v.app(), ping)
	})
}

// The error comes from the gateway even if the stack plays an address that is nearer to
// the asker: the destination of an open flow.
func TestProhibitedBesideAFlow(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		asker, near := netip.MustParseAddr("192.168.1.77"), netip.MustParseAddr("192.168.1.76")
		if v.six {
			asker, near = netip.MustParseAddr("2a77::77"), netip.MustParseAddr("2a77::76")
		}
		c := p.client(40001)
		c.local, c.remote = netip.AddrPortFrom(asker, 40001), netip.AddrPortFrom(near, 443)
		c.connect(1)
		ping := echoPacket(asker, v.far(), 7, []byte("hello"))
		p.send(ping)
		p.expectProhibited("a ping beside a flow", asker, ping)
	})
}

// A flood of pings gets a bounded number of errors, and leaves the refusals of
// connections their share.
func TestFloodOfPings(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		w.do(func(e *Engine) {
			w.decide = func(event events.Event) { _ = e.Refuse(event.Flow, RefuseHostUnreachable) }
		})
		// The stack's allowance begins nearly empty and is full after this.
		<-time.After(icmpBurst * time.Second / icmpPerSecond)
		const pings, ports = 20000, 500
		begin := time.Now()
		ping := echoPacket(v.app(), v.far(), 7, []byte("hello"))
		errors, refusals := 0, 0
		count := func(r received) {
			if bytes.HasSuffix(r.payload, []byte("hello")) {
				errors++
			} else {
				refusals++
			}
		}
		for range pings {
			p.send(ping)
		}
		for i := range uint16(ports) {
			c := p.client(30000 + i)
			c.remote = netip.AddrPortFrom(v.far(), 1+i)
			c.syn()
		}
		p.mark(count)
		most := pingBurst + int(pingsPerSecond*time.Since(begin).Seconds()) + 1
		if refusals != ports || errors < pingBurst || errors > most {
			t.Errorf("%d refusals of %d; %d errors, at most %d", refusals, ports, errors, most)
		}
	})
}
