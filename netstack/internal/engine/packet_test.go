package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	virtioSize = 10
	gsoUDP     = 5 // VIRTIO_NET_HDR_GSO_UDP_L4 (Virtio 1.2, section 5.1.6)
)

// ipOptions are the odd parts of an IP header.
type ipOptions struct {
	options        []byte // IPv4 options, or raw IPv6 extension headers
	next           uint8  // IPv6: the first extension header's number
	fragmentOffset uint16 // IPv4, bytes
	more           bool
	identification uint16
}

// ipPacket puts an IP header before a payload.
func ipPacket(source, destination netip.Addr, protocol uint8, payload []byte, odd ipOptions) []byte {
	if source.Is4() {
		size := header.IPv4MinimumSize + (len(odd.options)+3)/4*4
		packet := make([]byte, size+len(payload))
		flags := pick[uint8](odd.more, header.IPv4FlagMoreFragments, 0)
		ip := header.IPv4(packet)
		ip.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(packet)), TTL: 64, Protocol: protocol,
			ID: odd.identification, Flags: flags, FragmentOffset: odd.fragmentOffset,
			SrcAddr: tcpip.AddrFrom4(source.As4()), DstAddr: tcpip.AddrFrom4(destination.As4()),
		})
		ip.SetHeaderLength(uint8(size))
		copy(packet[header.IPv4MinimumSize:], odd.options)
		copy(packet[size:], payload)
		sumIPv4(packet)
		return packet
	}
	packet := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(odd.options)+len(payload))
	first := pick(len(odd.options) > 0, odd.next, protocol)
	header.IPv6(packet).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(odd.options) + len(payload)), HopLimit: 64,
		TransportProtocol: tcpip.TransportProtocolNumber(first),
		SrcAddr:           tcpip.AddrFrom16(source.As16()), DstAddr: tcpip.AddrFrom16(destination.As16()),
	})
	return append(append(packet, odd.options...), payload...)
}

// sumIPv4 fills in the header's checksum.
func sumIPv4(packet []byte) {
	size := min(int(packet[0]&15)*4, len(packet))
	binary.BigEndian.PutUint16(packet[10:], 0)
	binary.BigEndian.PutUint16(packet[10:], ^checksum.Checksum(packet[:size], 0))
}

func pseudo(source, destination netip.Addr, protocol uint8, size int) uint16 {
	return header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(protocol),
		tcpip.AddrFromSlice(source.AsSlice()), tcpip.AddrFromSlice(destination.AsSlice()), uint16(size))
}

// segment is a TCP segment to be built.
type segment struct {
	source, destination netip.AddrPort
	seq, ack            uint32
	flags               header.TCPFlags
	window              uint16 // 0: 65535
	options             []byte
	payload             []byte
	badChecksum         bool
	ip                  ipOptions
}

func (s segment) tcp() []byte {
	size := header.TCPMinimumSize + (len(s.options)+3)/4*4
	b := make([]byte, size+len(s.payload))
	tcp := header.TCP(b)
	tcp.Encode(&header.TCPFields{
		SrcPort: s.source.Port(), DstPort: s.destination.Port(), SeqNum: s.seq, AckNum: s.ack,
		DataOffset: uint8(size), Flags: s.flags, WindowSize: pick(s.window == 0, 65535, s.window),
	})
	copy(b[header.TCPMinimumSize:], s.options)
	copy(b[size:], s.payload)
	sum := pseudo(s.source.Addr(), s.destination.Addr(), uint8(header.TCPProtocolNumber), len(b))
	tcp.SetChecksum(^checksum.Checksum(b, sum))
	if s.badChecksum {
		tcp.SetChecksum(tcp.Checksum() ^ 0x1234)
	}
	return b
}

func (s segment) packet() []byte {
	return ipPacket(s.source.Addr(), s.destination.Addr(), uint8(header.TCPProtocolNumber), s.tcp(), s.ip)
}

// udpPacket builds a datagram; zero leaves its checksum 0.
func udpPacket(source, destination netip.AddrPort, payload []byte, zero bool, odd ipOptions) []byte {
	b := make([]byte, header.UDPMinimumSize+len(payload))
	udp := header.UDP(b)
	udp.Encode(&header.UDPFields{SrcPort: source.Port(), DstPort: destination.Port(), Length: uint16(len(b))})
	copy(b[header.UDPMinimumSize:], payload)
	if !zero {
		udp.SetChecksum(^checksum.Checksum(b, pseudo(source.Addr(), destination.Addr(), uint8(header.UDPProtocolNumber), len(b))))
	}
	return ipPacket(source.Addr(), destination.Addr(), uint8(header.UDPProtocolNumber), b, odd)
}

// echoBytes is an echo request without its IP header.
func echoBytes(source, destination netip.Addr, sequence uint16, payload []byte) (protocol uint8, b []byte) {
	b = make([]byte, header.ICMPv4MinimumSize+len(payload))
	copy(b[header.ICMPv4MinimumSize:], payload)
	binary.BigEndian.PutUint16(b[4:], 0x6e74)
	binary.BigEndian.PutUint16(b[6:], sequence)
	if source.Is4() {
		b[0] = byte(header.ICMPv4Echo)
		binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, 0))
		return uint8(header.ICMPv4ProtocolNumber), b
	}
	b[0] = byte(header.ICMPv6EchoRequest)
	sum := pseudo(source, destination, uint8(header.ICMPv6ProtocolNumber), len(b))
	binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, sum))
	return uint8(header.ICMPv6ProtocolNumber), b
}

func echoPacket(source, destination netip.Addr, sequence uint16, payload []byte) []byte {
	protocol, b := echoBytes(source, destination, sequence, payload)
	return ipPacket(source, destination, protocol, b, ipOptions{})
}

// received is one packet from the engine, taken apart and found right.
type received struct {
	packet              []byte
	source, destination netip.Addr
	protocol            uint8
	payload             []byte // from the transport header on
	tcp                 header.TCP
	segment             int    // the payload of each datagram, if there are several in one
	piece               *piece // of a fragment
}

// piece is where a fragment belongs.
type piece struct {
	id     uint32
	offset int
	more   bool
}

func (r received) String() string {
	if r.tcp != nil {
		return fmt.Sprintf("TCP %s:%d > %s:%d %s seq %d ack %d len %d", r.source, r.tcp.SourcePort(), r.destination,
			r.tcp.DestinationPort(), r.tcp.Flags(), r.tcp.SequenceNumber(), r.tcp.AckNumber(), len(r.tcp.Payload()))
	}
	return fmt.Sprintf("protocol %d %s > %s % x", r.protocol, r.source, r.destination, r.payload[:min(len(r.payload), 16)])
}

// dissect takes a packet from the device apart. An error names what a kernel
// would find wrong with it.
func dissect(raw []byte, vnet bool) (r received, err error) {
	packet := raw
	if vnet {
		if len(raw) < virtioSize {
			return r, errors.New("no virtio header")
		}
		packet = append([]byte(nil), raw[virtioSize:]...)
		if err := completeOffload(raw[:virtioSize], packet); err != nil {
			return r, err
		}
		if raw[1] == gsoUDP {
			r.segment = int(binary.NativeEndian.Uint16(raw[4:]))
		}
	} else if len(packet) > testMTU {
		return r, fmt.Errorf("%d bytes are more than the MTU", len(packet))
	}
	r.packet = packet
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		ip := header.IPv4(packet)
		if len(packet) < header.IPv4MinimumSize || int(ip.HeaderLength()) > len(packet) || int(ip.TotalLength()) != len(packet) {
			return r, errors.New("IPv4 lengths lie")
		}
		if !ip.IsChecksumValid() {
			return r, errors.New("IPv4 header checksum")
		}
		r.source, _ = netip.AddrFromSlice(ip.SourceAddressSlice())
		r.destination, _ = netip.AddrFromSlice(ip.DestinationAddressSlice())
		r.protocol, r.payload = ip.Protocol(), packet[ip.HeaderLength():]
		if ip.More() || ip.FragmentOffset() != 0 {
			r.piece = &piece{uint32(ip.ID()), int(ip.FragmentOffset()), ip.More()}
		}
	case header.IPv6Version:
		ip := header.IPv6(packet)
		if len(packet) < header.IPv6MinimumSize || int(ip.PayloadLength())+header.IPv6MinimumSize != len(packet) {
			return r, errors.New("IPv6 length lies")
		}
		r.source, _ = netip.AddrFromSlice(ip.SourceAddressSlice())
		r.destination, _ = netip.AddrFromSlice(ip.DestinationAddressSlice())
		r.protocol, r.payload = ip.NextHeader(), packet[header.IPv6MinimumSize:]
		if r.protocol == uint8(header.IPv6FragmentHeader) && len(r.payload) >= header.IPv6FragmentHeaderSize {
			f := header.IPv6Fragment(r.payload)
			r.piece = &piece{f.ID(), int(f.FragmentOffset()) * 8, f.More()}
			r.protocol, r.payload = f.NextHeader(), r.payload[header.IPv6FragmentHeaderSize:]
		}
	default:
		return r, fmt.Errorf("IP version %d", header.IPVersion(packet))
	}
	if r.piece != nil {
		if r.piece.more && len(r.payload)%8 != 0 || r.protocol != uint8(header.UDPProtocolNumber) {
			return r, fmt.Errorf("a fragment of %d bytes of protocol %d", len(r.payload), r.protocol)
		}
		return r, nil // its checksum is the whole datagram's
	}
	return r, r.check()
}

// check verifies the transport checksum.
func (r *received) check() error {
	sum := pseudo(r.source, r.destination, r.protocol, len(r.payload))
	switch tcpip.TransportProtocolNumber(r.protocol) {
	case header.TCPProtocolNumber:
		if len(r.payload) < header.TCPMinimumSize {
			return errors.New("short TCP header")
		}
		r.tcp = header.TCP(r.payload)
	case header.ICMPv4ProtocolNumber:
		sum = 0
	case header.ICMPv6ProtocolNumber, header.UDPProtocolNumber:
	default:
		// Nothing else has a reason to come out.
		return fmt.Errorf("protocol %d came out", r.protocol)
	}
	if len(r.payload) < 8 {
		return errors.New("short transport header")
	}
	if checksum.Checksum(r.payload, sum) != 0xffff {
		return fmt.Errorf("transport checksum of %s", r)
	}
	return nil
}

// completeOffload does what the kernel does with a virtio-net header: it
// refuses one that makes no sense, and fills in the checksum.
func completeOffload(h, packet []byte) error {
	order := binary.NativeEndian
	headers, mss := int(order.Uint16(h[2:])), int(order.Uint16(h[4:]))
	start, offset := int(order.Uint16(h[6:])), int(order.Uint16(h[8:]))
	if h[0]&^1 != 0 {
		return fmt.Errorf("virtio flags %#x", h[0])
	}
	six := header.IPVersion(packet) == header.IPv6Version
	if h[1] != 0 {
		if want := pick[byte](six, 4, 1); h[1] != want && h[1] != gsoUDP || h[0]&1 == 0 {
			return fmt.Errorf("virtio gso type %d, flags %d", h[1], h[0])
		}
		size := pick(six, header.IPv6MinimumSize, header.IPv4MinimumSize)
		transport := header.UDPMinimumSize
		if h[1] != gsoUDP {
			transport = int(header.TCP(packet[size:]).DataOffset())
		} else if mss > 0 && (len(packet)-headers-1)/mss >= 64 { // UDP_MAX_SEGMENTS until Linux 6.7
			return fmt.Errorf("virtio gso: %d bytes in datagrams of %d", len(packet)-headers, mss)
		}
		if headers != size+transport || mss == 0 || len(packet)-headers <= mss {
			return fmt.Errorf("virtio gso: header %d, size %d, packet %d", headers, mss, len(packet))
		}
		if headers+mss > testMTU {
			return fmt.Errorf("virtio gso: segments of %d bytes are more than the MTU", headers+mss)
		}
	} else if len(packet) > testMTU {
		return fmt.Errorf("a packet of %d bytes without segmentation", len(packet))
	}
	if h[0]&1 != 0 {
		if start+offset+2 > len(packet) {
			return errors.New("virtio checksum place past the end")
		}
		sum := ^checksum.Checksum(packet[start:], 0)
		binary.BigEndian.PutUint16(packet[start+offset:], sum)
	}
	return nil
}
