package link

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tcpChecksumOffset is where a TCP header has its checksum, in bytes.
const tcpChecksumOffset = 16

// Large tells whether the kernel cuts a large segment and sums it.
func (e *Endpoint) Large() bool { return e.vnet }

// Intact verifies the checksums of a packet if Read has not.
func (e *Endpoint) Intact(p *Packet) bool { return e.vnet || intact(p.data) }

// DescribeTCP fills a virtio header for a TCP packet of these many bytes of headers and of
// payload, which the kernel cuts at mss bytes and sums.
func DescribeTCP(h []byte, six bool, ipHeader, tcpHeader, payload, mss int) {
	clear(h[:VirtioHeaderSize])
	h[0] = flagNeedsChecksum
	order := binary.NativeEndian
	order.PutUint16(h[6:], uint16(ipHeader))
	order.PutUint16(h[8:], tcpChecksumOffset)
	if payload > mss {
		h[1] = gsoTCP4
		if six {
			h[1] = gsoTCP6
		}
		order.PutUint16(h[2:], uint16(ipHeader+tcpHeader))
		order.PutUint16(h[4:], uint16(mss))
	}
}

// Send writes one packet: its headers, behind VirtioHeaderSize bytes for the virtio header,
// and its payload.
func (e *Endpoint) Send(headers, payload []byte) bool {
	e.writing.RLock()
	defer e.writing.RUnlock()
	if e.stopped {
		return false
	}
	if !e.vnet {
		headers = headers[VirtioHeaderSize:]
	} else if headers[1] != gsoNone {
		e.SegmentedOut.Add(1)
	}
	var iov [2]unix.Iovec
	iov[0].Base = &headers[0]
	iov[0].SetLen(len(headers))
	count := uintptr(1)
	if len(payload) > 0 {
		iov[1].Base = &payload[0]
		iov[1].SetLen(len(payload))
		count = 2
	}
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(e.fd), uintptr(unsafe.Pointer(&iov[0])), count)
	if errno != 0 {
		e.WriteDrops.Add(1)
		return false
	}
	e.PacketsOut.Add(1)
	return true
}
