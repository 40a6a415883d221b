package link

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// VirtioHeaderSize is the size in bytes of struct virtio_net_hdr (Virtio 1.2,
// section 5.1.6, without num_buffers), which the kernel puts before each packet
// of a TUN opened with IFF_VNET_HDR.
const VirtioHeaderSize = 10

const (
	flagNeedsChecksum = 1 // the checksum is to be completed from csum_start on
	flagDataValid     = 2 // the checksum was verified

	gsoNone = 0
	gsoTCP4 = 1
	gsoTCP6 = 4
	gsoUDP  = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
)

// virtioHeader is the header in the machine's byte order, as TUN has it.
type virtioHeader [VirtioHeaderSize]byte

// checksumKnown tells whether the kernel vouches for the packet's checksum:
// either it verified it or it never left this machine and was not filled in.
func (h *virtioHeader) checksumKnown() bool {
	return h[0]&(flagNeedsChecksum|flagDataValid) != 0
}

func (h *virtioHeader) segmented() bool { return h[1] != gsoNone }

// datagramSize is the payload of each datagram of a packet that carries several,
// 0 for any other.
func (h *virtioHeader) datagramSize() int {
	if h[1] != gsoUDP {
		return 0
	}
	return int(binary.NativeEndian.Uint16(h[4:]))
}

// describeUDP fills the header for datagrams of segment bytes each, size bytes in
// all, behind an IP header of that many bytes.
func (h *virtioHeader) describeUDP(ipHeader, segment, size int) {
	*h = virtioHeader{0: flagNeedsChecksum}
	order := binary.NativeEndian
	order.PutUint16(h[6:], uint16(ipHeader))
	order.PutUint16(h[8:], udpChecksumOffset)
	if size > segment {
		h[1] = gsoUDP
		order.PutUint16(h[2:], uint16(ipHeader+header.UDPMinimumSize))
		order.PutUint16(h[4:], uint16(segment))
	}
}

// describe fills the header for an outgoing packet. size is the packet's length
// in bytes, headers included.
func (h *virtioHeader) describe(gso *stack.GSO, size int, transportHeader int) {
	*h = virtioHeader{}
	if gso.Type == stack.GSONone || !gso.NeedsCsum {
		return
	}
	h[0] = flagNeedsChecksum
	order := binary.NativeEndian
	order.PutUint16(h[6:], gso.L3HdrLen)
	order.PutUint16(h[8:], gso.CsumOffset)
	headers := int(gso.L3HdrLen) + transportHeader
	if size-headers <= int(gso.MSS) {
		return // one segment: the checksum is all there is to offload
	}
	switch gso.Type {
	case stack.GSOTCPv4:
		h[1] = gsoTCP4
	case stack.GSOTCPv6:
		h[1] = gsoTCP6
	}
	order.PutUint16(h[2:], uint16(headers))
	order.PutUint16(h[4:], gso.MSS)
}

// networkProtocol reads the version nibble; 0 when it is neither IPv4 nor IPv6.
func networkProtocol(packet []byte) (number uint32) {
	if len(packet) == 0 {
		return 0
	}
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		return uint32(header.IPv4ProtocolNumber)
	case header.IPv6Version:
		return uint32(header.IPv6ProtocolNumber)
	}
	return 0
}
