package link

import (
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// intact verifies the checksums of a packet that the kernel does not vouch for.
//
// The NIC either verifies all packets or none, and none is right for those that
// never had a checksum filled in. So with virtio-net headers the NIC is told
// that the link verifies, and this is where it does. Of a fragment only the IP
// header is verified; a kernel sums a packet before it fragments it.
func intact(packet []byte) bool {
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		ip := header.IPv4(packet)
		if !ip.IsValid(len(packet)) {
			return false
		}
		if !ip.IsChecksumValid() {
			return false
		}
		if ip.More() || ip.FragmentOffset() != 0 {
			return true
		}
		payload := summed(ip.Protocol(), packet[ip.HeaderLength():ip.TotalLength()])
		if ip.Protocol() == uint8(header.ICMPv4ProtocolNumber) {
			return checksum.Checksum(payload, 0) == 0xffff
		}
		pseudo := header.PseudoHeaderChecksum(ip.TransportProtocol(), ip.SourceAddress(), ip.DestinationAddress(), uint16(len(payload)))
		return transportIntact(ip.Protocol(), payload, pseudo)
	case header.IPv6Version:
		ip := header.IPv6(packet)
		if !ip.IsValid(len(packet)) {
			return false
		}
		payload := summed(ip.NextHeader(), packet[header.IPv6MinimumSize:header.IPv6MinimumSize+int(ip.PayloadLength())])
		pseudo := header.PseudoHeaderChecksum(ip.TransportProtocol(), ip.SourceAddress(), ip.DestinationAddress(), uint16(len(payload)))
		if ip.NextHeader() == uint8(header.ICMPv6ProtocolNumber) {
			return checksum.Checksum(payload, pseudo) == 0xffff
		}
		return transportIntact(ip.NextHeader(), payload, pseudo)
	}
	return false
}

// summed is the part of an IP payload that its checksum is about: UDP may be
// shorter than what carries it (RFC 768).
func summed(protocol uint8, payload []byte) []byte {
	if protocol == uint8(header.UDPProtocolNumber) && len(payload) >= header.UDPMinimumSize {
		if n := int(header.UDP(payload).Length()); n >= header.UDPMinimumSize && n < len(payload) {
			return payload[:n]
		}
	}
	return payload
}

// pastTheStack tells what may not get to the stack: UDP, and ICMP, whose queries are
// answered before it. What is behind IPv6 extension headers is not looked for.
func pastTheStack(packet []byte) bool {
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		return len(packet) >= header.IPv4MinimumSize &&
			(packet[9] == uint8(header.UDPProtocolNumber) || packet[9] == uint8(header.ICMPv4ProtocolNumber))
	case header.IPv6Version:
		return len(packet) >= header.IPv6MinimumSize &&
			(packet[6] == uint8(header.UDPProtocolNumber) || packet[6] == uint8(header.ICMPv6ProtocolNumber))
	}
	return false
}

// transportIntact verifies TCP and UDP. Behind IPv6 extension headers the checksum is
// not verified: the app's own kernel made it.
func transportIntact(protocol uint8, payload []byte, pseudo uint16) bool {
	switch protocol {
	case uint8(header.TCPProtocolNumber):
		return checksum.Checksum(payload, pseudo) == 0xffff
	case uint8(header.UDPProtocolNumber):
		if len(payload) >= header.UDPMinimumSize && header.UDP(payload).Checksum() == 0 {
			return true // none was sent; the stack decides whether that is allowed
		}
		return checksum.Checksum(payload, pseudo) == 0xffff
	}
	return true
}
