package engine

import (
	"bytes"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The gateway answers a ping with what the ping held.
func TestPingOfTheGateway(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		for size := range []int{0, 1, 56, 1400} {
			payload := bytes.Repeat([]byte{byte(size)}, size)
			p.send(echoPacket(v.app(), v.gateway(), 7, payload))
			r := p.next()
			reply := pick(v.six, byte(header.ICMPv6EchoReply), byte(header.ICMPv4EchoReply))
			if r.source != v.gateway() || r.destination != v.app() || r.payload[0] != reply || !bytes.Equal(r.payload[8:], payload) {
				t.Errorf("%d bytes: %s", size, r)
			}
		}
	})
}

// The gateway answers a ping in fragments.
func TestFragmentedPingOfTheGateway(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		for _, packet := range oddPings(v, v.gateway())[:2] {
			p.send(packet)
		}
		if r := p.next(); r.source != v.gateway() || len(r.payload) != 8+1000 {
			t.Errorf("the answer is %s", r)
		}
	})
}

// oddPings is one ping in two fragments, and one with more headers.
func oddPings(v variant, to netip.Addr) [][]byte {
	protocol, b := echoBytes(v.app(), to, 9, bytes.Repeat([]byte("x"), 1000))
	if !v.six {
		return [][]byte{
			ipPacket(v.app(), to, protocol, b[:504], ipOptions{more: true, identification: 99}),
			ipPacket(v.app(), to, protocol, b[504:], ipOptions{fragmentOffset: 504, identification: 99}),
			ipPacket(v.app(), to, protocol, b, ipOptions{options: []byte{1, 1, 1, 1}}),
		}
	}
	fragment := func(offset uint16, more byte) []byte {
		return []byte{protocol, 0, byte(offset >> 8), byte(offset) | more, 0, 0, 0, 99}
	}
	return [][]byte{
		ipPacket(v.app(), to, protocol, b[:504], ipOptions{next: 44, options: fragment(0, 1)}),
		ipPacket(v.app(), to, protocol, b[504:], ipOptions{next: 44, options: fragment(504, 0)}),
		ipPacket(v.app(), to, protocol, b, ipOptions{next: 60, options: []byte{protocol, 0, 1, 4, 0, 0, 0, 0}}),
	}
}
