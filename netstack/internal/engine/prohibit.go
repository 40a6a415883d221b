package engine

import (
	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Only the gateway answers ICMP queries: no proxy carries them, and an answer in the
// name of another host would be a lie. Whoever asks another host is told so by an error
// from the gateway, at once, instead of waiting for nothing.
//
// The stack could make that error, but not with this source: it chooses among the
// addresses that it plays, and the destinations of open flows are some of them.

const (
	// pingsPerSecond bounds the errors about queries; people and monitors send far
	// less. It is a limit of its own: a flood of pings must not use up what the
	// stack may send about refused connections.
	pingsPerSecond = 1000
	pingBurst      = 200

	// What an error quotes at most: the whole of it stays below what every host
	// accepts, 576 bytes (RFC 1812, 4.3.2.3) and 1280 (RFC 4443, 2.4 (c)).
	quoted4 = 576 - header.IPv4MinimumSize - header.ICMPv4MinimumSize
	quoted6 = header.IPv6MinimumMTU - header.IPv6MinimumSize - header.ICMPv6MinimumSize
)

func newPingLimit() *rate.Limiter { return rate.NewLimiter(pingsPerSecond, pingBurst) }

// prohibit answers a query to another host with "administratively prohibited".
func (e *Engine) prohibit(t *tuple, packet []byte) {
	if !e.gateways.answerable(t) || !e.pings.Allow() {
		return
	}
	protocol, size, gateway := header.IPv4ProtocolNumber, header.IPv4AddressSize, e.gateways.four
	if t.six {
		protocol, size, gateway = header.IPv6ProtocolNumber, header.IPv6AddressSize, e.gateways.six
	}
	route, err := e.stack.FindRoute(nic, tcpip.AddrFromSlice(gateway[:size]), tcpip.AddrFromSlice(t.source[:size]), protocol, false)
	if err != nil {
		e.link.WriteDrops.Add(1)
		return
	}
	defer route.Release()
	answer := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.ICMPv4MinimumSize + int(route.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(packet[:min(len(packet), t.quoted())]),
	})
	defer answer.DecRef()
	if t.six {
		unreachable6(route, answer)
	} else {
		unreachable4(answer)
	}
	params := stack.NetworkHeaderParams{Protocol: answer.TransportProtocolNumber, TTL: route.DefaultTTL()}
	if err := route.WritePacket(params, answer); err != nil {
		e.link.WriteDrops.Add(1)
	}
}

func (t *tuple) quoted() int {
	if t.six {
		return quoted6
	}
	return quoted4
}

func unreachable4(answer *stack.PacketBuffer) {
	answer.TransportProtocolNumber = header.ICMPv4ProtocolNumber
	icmp := header.ICMPv4(answer.TransportHeader().Push(header.ICMPv4MinimumSize))
	icmp.SetType(header.ICMPv4DstUnreachable)
	icmp.SetCode(header.ICMPv4AdminProhibited)
	icmp.SetChecksum(header.ICMPv4Checksum(icmp, answer.Data().Checksum()))
}

func unreachable6(route *stack.Route, answer *stack.PacketBuffer) {
	answer.TransportProtocolNumber = header.ICMPv6ProtocolNumber
	icmp := header.ICMPv6(answer.TransportHeader().Push(header.ICMPv6MinimumSize))
	icmp.SetType(header.ICMPv6DstUnreachable)
	icmp.SetCode(header.ICMPv6Prohibited)
	icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header:      icmp,
		Src:         route.LocalAddress(),
		Dst:         route.RemoteAddress(),
		PayloadCsum: answer.Data().Checksum(),
		PayloadLen:  answer.Data().Size(),
	}))
}

// answerable tells whether both ends are single hosts, which alone may be sent an error
// or cause one (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)), and the asker is not the gateway.
func (g *gateways) answerable(t *tuple) bool {
	if t.six {
		return t.source != g.six && single6(&t.source) && single6(&t.destination)
	}
	return t.source != g.four && g.single4(&t.source) && g.single4(&t.destination)
}

// single4: neither the first nor the last address of the gateway's /30 is one host's.
func (g *gateways) single4(address *[16]byte) bool {
	first := address[0]
	if first == 0 || first == 127 || first > 223 {
		return false
	}
	inside := [3]byte(address[:3]) == [3]byte(g.four[:3]) && address[3]&^3 == g.four[3]&^3
	return !inside || address[3]&3 == 1 || address[3]&3 == 2
}

func single6(address *[16]byte) bool {
	var unspecified, loopback [16]byte
	loopback[15] = 1
	return address[0] != 0xff && *address != unspecified && *address != loopback
}
