package link

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// udpChecksumOffset is where the checksum stands in a UDP header (RFC 768).
	udpChecksumOffset = 6

	// MaxTogether is how many datagrams one write may carry: UDP_MAX_SEGMENTS
	// of the kernels that know of it at all.
	MaxTogether = 64

	hopLimit = 64

	headersSize = header.IPv6MinimumSize + header.UDPMinimumSize
)

// End is one end of a UDP flow. It has no padding, so that a map hashes it in one
// go.
type End struct {
	Host   [16]byte // IPv4 in the first four bytes
	Port   uint16
	Family uint16 // 4 or 6
}

// Six tells IPv6 from IPv4.
func (e *End) Six() bool { return e.Family == 6 }

// Bytes is the address in network order.
func (e *End) Bytes() []byte {
	if e.Six() {
		return e.Host[:]
	}
	return e.Host[:4]
}

// DatagramWriter writes UDP datagrams to the device, past the stack. Each user
// has one of its own.
type DatagramWriter struct {
	link    *Endpoint
	header  virtioHeader
	headers [headersSize]byte
	iov     [2 + MaxTogether]unix.Iovec
}

// NewDatagramWriter makes a writer for the device.
func NewDatagramWriter(link *Endpoint) *DatagramWriter { return &DatagramWriter{link: link} }

// Together tells whether one write may carry several datagrams.
func (w *DatagramWriter) Together() bool { return w.link.together.Load() }

// Fits tells whether a payload of that many bytes needs no fragments.
func (w *DatagramWriter) Fits(size int, six bool) bool {
	return ipHeaderSize(six)+header.UDPMinimumSize+size <= int(w.link.MTU())
}

func ipHeaderSize(six bool) int {
	if six {
		return header.IPv6MinimumSize
	}
	return header.IPv4MinimumSize
}

// Write writes one datagram for each payload, 1 to MaxTogether of them. Several
// are of one size but for the last, which may be shorter; they go out in one
// write. A datagram that the device does not take is dropped and counted.
func (w *DatagramWriter) Write(source, destination *End, payloads ...[]byte) {
	e := w.link
	e.writing.RLock()
	defer e.writing.RUnlock()
	if e.stopped {
		return
	}
	errno := w.write(source, destination, payloads)
	if errno == unix.EINVAL && len(payloads) > 1 {
		// A kernel before 6.2: one by one, from now on.
		e.together.Store(false)
		for _, payload := range payloads {
			if w.write(source, destination, [][]byte{payload}) != 0 {
				e.WriteDrops.Add(1)
			}
		}
		return
	}
	if errno != 0 {
		e.WriteDrops.Add(uint64(len(payloads)))
	}
}

func (w *DatagramWriter) write(source, destination *End, payloads [][]byte) unix.Errno {
	size := 0
	for _, payload := range payloads {
		size += len(payload)
	}
	headers := w.headers[:ipHeaderSize(source.Six())+header.UDPMinimumSize]
	putHeaders(headers, source, destination, size)
	udp := header.UDP(headers[len(headers)-header.UDPMinimumSize:])
	iov := w.iov[:0]
	if w.link.vnet {
		w.header.describeUDP(len(headers)-header.UDPMinimumSize, len(payloads[0]), size)
		iov = append(iov, unix.Iovec{Base: &w.header[0], Len: VirtioHeaderSize})
	} else {
		udp.SetChecksum(completed(udp, payloads[0]))
	}
	iov = append(iov, unix.Iovec{Base: &headers[0], Len: uint64(len(headers))})
	for _, payload := range payloads {
		if len(payload) > 0 {
			iov = append(iov, unix.Iovec{Base: &payload[0], Len: uint64(len(payload))})
		}
	}
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(w.link.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	clear(iov)
	if errno == 0 {
		w.link.PacketsOut.Add(1)
		if len(payloads) > 1 {
			w.link.SegmentedOut.Add(1)
		}
	}
	return errno
}

// putHeaders writes an IP and a UDP header for a payload of that many bytes. The
// UDP checksum is the pseudo header's sum only, to be completed later.
func putHeaders(b []byte, source, destination *End, size int) {
	ip := len(b) - header.UDPMinimumSize
	length := uint16(header.UDPMinimumSize + size)
	if source.Six() {
		clear(b[:8])
		b[0] = header.IPv6Version << 4
		binary.BigEndian.PutUint16(b[4:], length)
		b[6], b[7] = uint8(header.UDPProtocolNumber), hopLimit
		copy(b[8:], source.Host[:])
		copy(b[24:], destination.Host[:])
	} else {
		clear(b[:12])
		b[0] = header.IPv4Version<<4 | header.IPv4MinimumSize/4
		binary.BigEndian.PutUint16(b[2:], uint16(ip)+length)
		b[6] = header.IPv4FlagDontFragment << 5
		b[8], b[9] = hopLimit, uint8(header.UDPProtocolNumber)
		copy(b[12:], source.Host[:4])
		copy(b[16:], destination.Host[:4])
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	}
	udp := b[ip:]
	binary.BigEndian.PutUint16(udp, source.Port)
	binary.BigEndian.PutUint16(udp[2:], destination.Port)
	binary.BigEndian.PutUint16(udp[4:], length)
	sum := checksum.Checksum(source.Bytes(), 0)
	sum = checksum.Checksum(destination.Bytes(), sum)
	sum = checksum.Combine(sum, length)
	sum = checksum.Combine(sum, uint16(header.UDPProtocolNumber))
	binary.BigEndian.PutUint16(udp[udpChecksumOffset:], sum)
}

// EmptyDatagram is a packet without a payload, from source to destination.
func EmptyDatagram(source, destination *End) []byte {
	packet := make([]byte, ipHeaderSize(source.Six())+header.UDPMinimumSize)
	putHeaders(packet, source, destination, 0)
	udp := header.UDP(packet[len(packet)-header.UDPMinimumSize:])
	udp.SetChecksum(completed(udp, nil))
	return packet
}

// completed is the checksum of a datagram whose header holds the pseudo header's
// sum in its place. A sum of zero is sent as its other form: zero means none (RFC
// 768).
func completed(udp header.UDP, payload []byte) uint16 {
	sum := ^udp.CalculateChecksum(checksum.Checksum(payload, 0))
	if sum == 0 {
		return 0xffff
	}
	return sum
}
