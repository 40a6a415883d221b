package smalltcp

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/link"
)

const (
	hopLimit = 64

	// synOptions is the size of the options of a SYN-ACK, in bytes.
	synOptions = 8

	headersSize = link.VirtioHeaderSize + header.IPv6MinimumSize + header.TCPMinimumSize + synOptions

	// largestWindow is what 16 bits say.
	largestWindow = 0xffff
)

// packet is the headers of what is sent, in which only some fields change.
type packet struct {
	headers [headersSize]byte // the first are for the virtio header
	six     bool
	ipSize  int
	mss     int    // the most bytes of payload that the app takes in one segment
	pseudo  uint16 // the sum of the pseudo header without the length
}

// address fills in the ends: those of the SYN, the other way round.
func (p *packet) address(network []byte, syn header.TCP) {
	at := p.headers[link.VirtioHeaderSize:]
	var source, destination tcpip.Address
	if p.six = header.IPVersion(network) == header.IPv6Version; p.six {
		p.ipSize = header.IPv6MinimumSize
		asked := header.IPv6(network)
		source, destination = asked.DestinationAddress(), asked.SourceAddress()
		header.IPv6(at).Encode(&header.IPv6Fields{
			TransportProtocol: header.TCPProtocolNumber, HopLimit: hopLimit,
			SrcAddr: source, DstAddr: destination,
		})
	} else {
		p.ipSize = header.IPv4MinimumSize
		asked := header.IPv4(network)
		source, destination = asked.DestinationAddress(), asked.SourceAddress()
		header.IPv4(at).Encode(&header.IPv4Fields{
			TTL: hopLimit, Protocol: uint8(header.TCPProtocolNumber), Flags: header.IPv4FlagDontFragment,
			SrcAddr: source, DstAddr: destination,
		})
	}
	p.pseudo = header.PseudoHeaderChecksum(header.TCPProtocolNumber, source, destination, 0)
	t := header.TCP(at[p.ipSize:])
	t.SetSourcePort(syn.DestinationPort())
	t.SetDestinationPort(syn.SourcePort())
	t.SetDataOffset(header.TCPMinimumSize)
}

// tcp is the TCP header with room for options.
func (p *packet) tcp() header.TCP {
	return header.TCP(p.headers[link.VirtioHeaderSize+p.ipSize:])
}

// complete fills in lengths and checksums, for a TCP header of that many bytes, and returns
// the headers. large: the kernel sums, and cuts what is larger than one segment.
func (p *packet) complete(tcpSize int, payload []byte, large bool) []byte {
	whole := p.headers[:link.VirtioHeaderSize+p.ipSize+tcpSize]
	at := whole[link.VirtioHeaderSize:]
	size := tcpSize + len(payload)
	if p.six {
		header.IPv6(at).SetPayloadLength(uint16(size))
	} else {
		ip := header.IPv4(at)
		ip.SetTotalLength(uint16(p.ipSize + size))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	t := header.TCP(at[p.ipSize:])
	t.SetChecksum(0)
	sum := checksum.Combine(p.pseudo, uint16(size))
	if large {
		t.SetChecksum(sum)
		link.DescribeTCP(whole, p.six, p.ipSize, tcpSize, len(payload), p.mss)
	} else {
		t.SetChecksum(^t.CalculateChecksum(checksum.Checksum(payload, sum)))
	}
	return whole
}

// send sends a segment. mu is held, as for all that follows.
func (c *Conn) send(flags header.TCPFlags, seq uint32, payload []byte) {
	c.sendWith(flags, seq, payload, header.TCPMinimumSize, c.offer(c.shift))
}

func (c *Conn) sendWith(flags header.TCPFlags, seq uint32, payload []byte, tcpSize int, window uint16) {
	t := c.packet.tcp()
	t.SetSequenceNumber(seq)
	t.SetAckNumber(c.expected)
	t.SetFlags(uint8(flags))
	t.SetWindowSize(window)
	c.owed = 0
	c.host.link.Send(c.packet.complete(tcpSize, payload, c.host.link.Large()), payload)
}

// synACK offers what the SYN asked for: MSS always, a window scale if it had one.
func (c *Conn) synACK() {
	t := c.packet.tcp()
	options := t[header.TCPMinimumSize:]
	size := header.EncodeMSSOption(uint32(c.host.mss(c.packet.six)), options)
	if c.shift > 0 {
		size += header.EncodeNOP(options[size:])
		size += header.EncodeWSOption(int(c.shift), options[size:])
	}
	size += header.TCPMinimumSize
	t.SetDataOffset(uint8(size))
	c.sendWith(header.TCPFlagSyn|header.TCPFlagAck, c.oldest, nil, size, largestWindow)
	t.SetDataOffset(header.TCPMinimumSize)
}

// acknowledge tells the app what has come, and how much more it may send.
func (c *Conn) acknowledge() { c.send(header.TCPFlagAck, c.furthest, nil) }

// parse finds the TCP header and the payload of an IP packet, whose transport header is
// TCP's as glance has found.
func parse(data []byte, six bool) (t header.TCP, ok bool) {
	if six {
		if len(data) < header.IPv6MinimumSize || header.IPv6(data).NextHeader() != uint8(header.TCPProtocolNumber) {
			return nil, false
		}
		end := header.IPv6MinimumSize + int(header.IPv6(data).PayloadLength())
		if end > len(data) {
			return nil, false
		}
		return header.TCP(data[header.IPv6MinimumSize:end]), true
	}
	ip := header.IPv4(data)
	if !ip.IsValid(len(data)) {
		return nil, false
	}
	return header.TCP(data[ip.HeaderLength():ip.TotalLength()]), true
}

// whole tells whether all of the header is there.
func whole(t header.TCP) bool {
	return len(t) >= header.TCPMinimumSize && int(t.DataOffset()) >= header.TCPMinimumSize && int(t.DataOffset()) <= len(t)
}
