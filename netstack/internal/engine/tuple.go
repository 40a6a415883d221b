package engine

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"nanotun/netstack/internal/link"
)

// tuple names a flow: the app's end is the source.
type tuple struct {
	source, destination         [16]byte // IPv4 in the first four bytes
	sourcePort, destinationPort uint16
	six                         bool
}

// tupleOf is the tuple of the stack's id, in which "local" is the destination
// that the stack plays.
func tupleOf(id stack.TransportEndpointID) (t tuple) {
	copy(t.source[:], id.RemoteAddress.AsSlice())
	copy(t.destination[:], id.LocalAddress.AsSlice())
	t.sourcePort, t.destinationPort = id.RemotePort, id.LocalPort
	t.six = id.LocalAddress.Len() == header.IPv6AddressSize
	return t
}

func (t *tuple) family() uint8 {
	if t.six {
		return 6
	}
	return 4
}

func (t *tuple) destinationAddress() netip.Addr { return t.address(&t.destination) }

func (t *tuple) sourceEnd() netip.AddrPort {
	return netip.AddrPortFrom(t.address(&t.source), t.sourcePort)
}

func (t *tuple) destinationEnd() netip.AddrPort {
	return netip.AddrPortFrom(t.address(&t.destination), t.destinationPort)
}

func (t *tuple) address(a *[16]byte) netip.Addr {
	if t.six {
		return netip.AddrFrom16(*a)
	}
	return netip.AddrFrom4([4]byte(a[:4]))
}

// ends are the two ends of a UDP flow.
func (t *tuple) ends() (source, destination link.End) {
	family := uint16(t.family())
	return link.End{Host: t.source, Port: t.sourcePort, Family: family},
		link.End{Host: t.destination, Port: t.destinationPort, Family: family}
}

// kind is what sort of packet a glance at its headers finds.
type kind int

const (
	kindOther kind = iota
	kindTCP
	kindUDP
	kindQuery // an ICMP echo request or another query, or the first fragment of one
	kindPiece // any other fragment of ICMP
	kindTiny  // a first fragment too small for a TCP header
)

// glance reads just enough of a packet to find its flow: the tuple of an
// unfragmented TCP or UDP packet, or the ends of an ICMP query. What it does not
// recognise is left to the stack.
func glance(packet []byte) (t tuple, k kind) {
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		return glance4(packet)
	case header.IPv6Version:
		return glance6(packet)
	}
	return t, kindOther
}

func glance4(packet []byte) (t tuple, k kind) {
	if len(packet) < header.IPv4MinimumSize {
		return t, kindOther
	}
	ip := header.IPv4(packet)
	size := int(ip.HeaderLength())
	if size < header.IPv4MinimumSize {
		return t, kindOther
	}
	copy(t.source[:4], packet[12:16])
	copy(t.destination[:4], packet[16:20])
	if ip.FragmentOffset() != 0 || ip.More() {
		// RFC 1858: such a fragment can only be an attack, and gVisor
		// goes on to use a header that it has released.
		tcp := tcpip.TransportProtocolNumber(ip.Protocol()) == header.TCPProtocolNumber
		if tcp && ip.FragmentOffset() == 0 && len(packet)-size < header.TCPHeaderMaximumSize {
			return t, kindTiny
		}
		return fragment(t, ip.Protocol(), ip.FragmentOffset() == 0, packet[min(size, len(packet)):])
	}
	return finish(t, ip.Protocol(), packet[min(size, len(packet)):])
}

// fragment is for packets whose transport header is incomplete. No ICMP error is so
// long; an echo request may be.
func fragment(t tuple, protocol uint8, first bool, transport []byte) (tuple, kind) {
	switch tcpip.TransportProtocolNumber(protocol) {
	case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber:
		if first && t.asks(protocol, transport) {
			return t, kindQuery
		}
		return t, kindPiece
	}
	return t, kindOther
}

// asks tells whether ICMP bytes are a query, which another host would answer. Errors,
// replies and what hosts say on their link are none.
func (t *tuple) asks(protocol uint8, icmp []byte) bool {
	if len(icmp) == 0 {
		return false
	}
	switch {
	case !t.six && protocol == uint8(header.ICMPv4ProtocolNumber):
		switch icmp[0] {
		case 8, 13, 15, 17, 42: // RFC 792, RFC 950, RFC 8335
			return true
		}
	case t.six && protocol == uint8(header.ICMPv6ProtocolNumber):
		switch icmp[0] {
		case 128, 139, 160: // RFC 4443, RFC 4620, RFC 8335
			return true
		}
	}
	return false
}

func glance6(packet []byte) (t tuple, k kind) {
	if len(packet) < header.IPv6MinimumSize {
		return t, kindOther
	}
	t.six = true
	copy(t.source[:], packet[8:24])
	copy(t.destination[:], packet[24:40])
	protocol, rest := packet[6], packet[header.IPv6MinimumSize:]
	for {
		// RFC 8200, section 4: next header, then the length in units of
		// eight bytes beyond the first eight.
		switch header.IPv6ExtensionHeaderIdentifier(protocol) {
		case header.IPv6FragmentExtHdrIdentifier:
			if len(rest) < header.IPv6FragmentHeaderSize {
				return t, kindOther
			}
			first := binary.BigEndian.Uint16(rest[2:])>>3 == 0
			return fragment(t, rest[0], first, rest[header.IPv6FragmentHeaderSize:])
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6RoutingExtHdrIdentifier,
			header.IPv6DestinationOptionsExtHdrIdentifier:
			if len(rest) < 8 || len(rest) < 8*(1+int(rest[1])) {
				return t, kindOther
			}
			protocol, rest = rest[0], rest[8*(1+int(rest[1])):]
		default:
			found, k := finish(t, protocol, rest)
			if (k == kindTCP || k == kindUDP) && len(rest) != len(packet)-header.IPv6MinimumSize {
				return t, kindOther // so rare that the stack's slow path will do
			}
			return found, k
		}
	}
}

func finish(t tuple, protocol uint8, transport []byte) (tuple, kind) {
	switch tcpip.TransportProtocolNumber(protocol) {
	case header.TCPProtocolNumber:
		if len(transport) < header.TCPMinimumSize {
			return t, kindOther
		}
		t.sourcePort = binary.BigEndian.Uint16(transport)
		t.destinationPort = binary.BigEndian.Uint16(transport[2:])
		return t, kindTCP
	case header.UDPProtocolNumber:
		if len(transport) < header.UDPMinimumSize {
			return t, kindOther
		}
		t.sourcePort = binary.BigEndian.Uint16(transport)
		t.destinationPort = binary.BigEndian.Uint16(transport[2:])
		return t, kindUDP
	case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber:
		if t.asks(protocol, transport) {
			return t, kindQuery
		}
	}
	return t, kindOther
}

// gateways tells the gateway's addresses from all others.
type gateways struct{ four, six [16]byte }

func newGateways(four, six netip.Addr) (g gateways) {
	copy(g.four[:], four.AsSlice())
	copy(g.six[:], six.AsSlice())
	return g
}

func (g *gateways) has(t *tuple) bool {
	if t.six {
		return t.destination == g.six
	}
	return t.destination == g.four
}
