package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func endOf(address string) (e End) {
	a := netip.MustParseAddrPort(address)
	e.Port, e.Family = a.Port(), 4
	if a.Addr().Is6() {
		e.Family = 6
	}
	copy(e.Host[:], a.Addr().AsSlice())
	return e
}

func ends(six bool) (source, destination End) {
	if six {
		return endOf("[2001:db8::7]:53"), endOf("[fdfe::2]:5000")
	}
	return endOf("203.0.113.7:53"), endOf("198.18.0.2:5000")
}

func forEach(t *testing.T, f func(t *testing.T, vnet, six bool)) {
	t.Helper()
	for _, vnet := range []bool{false, true} {
		for _, six := range []bool{false, true} {
			t.Run(fmt.Sprintf("vnet %t, IPv6 %t", vnet, six), func(t *testing.T) { f(t, vnet, six) })
		}
	}
}

// written is a packet that was written, its checksum completed as the kernel does.
type written struct {
	header, packet []byte
	udp            header.UDP
}

func read(t *testing.T, fd int, vnet, six bool) (w written) {
	t.Helper()
	b := make([]byte, 70000)
	n, err := unix.Read(fd, b)
	if err != nil {
		t.Fatal(err)
	}
	w.packet = b[:n]
	if vnet {
		w.header, w.packet = b[:VirtioHeaderSize], b[VirtioHeaderSize:n]
	}
	w.udp = header.UDP(w.packet[ipHeaderSize(six):])
	if vnet {
		order := binary.NativeEndian
		start, place := int(order.Uint16(w.header[6:])), int(order.Uint16(w.header[8:]))
		if w.header[0] != flagNeedsChecksum || start != ipHeaderSize(six) || place != 6 {
			t.Fatalf("the virtio header is % x", w.header)
		}
		binary.BigEndian.PutUint16(w.packet[start+place:], ^checksum.Checksum(w.packet[start:], 0))
	}
	return w
}

// check compares a packet with what was to be written.
func (w written) check(t *testing.T, source, destination *End, payload []byte) {
	t.Helper()
	var from, to []byte
	var sum uint16
	if source.Six() {
		ip := header.IPv6(w.packet)
		from, to = ip.SourceAddressSlice(), ip.DestinationAddressSlice()
		if !ip.IsValid(len(w.packet)) || int(ip.PayloadLength()) != len(w.udp) || ip.NextHeader() != 17 || ip.HopLimit() != 64 {
			t.Errorf("the IPv6 header is % x", w.packet[:header.IPv6MinimumSize])
		}
	} else {
		ip := header.IPv4(w.packet)
		from, to = ip.SourceAddressSlice(), ip.DestinationAddressSlice()
		if !ip.IsValid(len(w.packet)) || !ip.IsChecksumValid() || int(ip.TotalLength()) != len(w.packet) || ip.Protocol() != 17 || ip.TTL() != 64 || ip.More() || ip.FragmentOffset() != 0 {
			t.Errorf("the IPv4 header is % x", w.packet[:header.IPv4MinimumSize])
		}
	}
	sum = header.PseudoHeaderChecksum(17, tcpip.AddrFromSlice(from), tcpip.AddrFromSlice(to), uint16(len(w.udp)))
	if !bytes.Equal(from, source.Bytes()) || !bytes.Equal(to, destination.Bytes()) ||
		w.udp.SourcePort() != source.Port || w.udp.DestinationPort() != destination.Port || int(w.udp.Length()) != len(w.udp) {
		t.Errorf("% x", w.packet[:ipHeaderSize(source.Six())+8])
	}
	if checksum.Checksum(w.udp, sum) != 0xffff || w.udp.Checksum() == 0 && w.header == nil {
		t.Errorf("the checksum %04x is wrong", w.udp.Checksum())
	}
	if !bytes.Equal(w.udp.Payload(), payload) {
		t.Errorf("%d bytes, not the %d that were written", len(w.udp.Payload()), len(payload))
	}
}

func some(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 ^ i>>8)
	}
	return b
}

// A datagram comes out as one packet with right headers, one after the other: none
// leaves anything in the next.
func TestDatagramWriter(t *testing.T) {
	forEach(t, func(t *testing.T, vnet, six bool) {
		e, far := pair(t, vnet)
		w := NewDatagramWriter(e)
		source, destination := ends(six)
		for _, size := range []int{1400, 0, 1, 2, 3, 1472, 0, 1400, 65507} {
			w.Write(&source, &destination, some(size))
			p := read(t, far, vnet, six)
			p.check(t, &source, &destination, some(size))
			if vnet && (p.header[1] != 0 || binary.NativeEndian.Uint32(p.header[2:]) != 0) {
				t.Errorf("%d bytes: one datagram is described as several: % x", size, p.header)
			}
			if !vnet && !bytes.Equal(EmptyDatagram(&source, &destination), p.packet) && size == 0 {
				t.Error("EmptyDatagram is another")
			}
		}
		if e.PacketsOut.Load() != 9 || e.SegmentedOut.Load() != 0 || e.WriteDrops.Load() != 0 {
			t.Errorf("%d out, %d segmented, %d dropped", e.PacketsOut.Load(), e.SegmentedOut.Load(), e.WriteDrops.Load())
		}
	})
}

// The two families may take turns on one writer.
func TestDatagramWriterOfBothFamilies(t *testing.T) {
	for _, vnet := range []bool{false, true} {
		e, far := pair(t, vnet)
		w := NewDatagramWriter(e)
		for i := range 6 {
			six := i%2 == 0
			source, destination := ends(six)
			w.Write(&source, &destination, some(i))
			p := read(t, far, vnet, six)
			p.check(t, &source, &destination, some(i))
		}
	}
}

// A checksum that comes out as 0 is sent as 0xffff: 0 says that there is none (RFC
// 768), and IPv6 has no such (RFC 8200, section 8.1).
func TestDatagramWriterSumOfZero(t *testing.T) {
	for _, six := range []bool{false, true} {
		e, far := pair(t, false)
		w := NewDatagramWriter(e)
		source, destination := ends(six)
		zeros := 0
		for i := range 65536 {
			payload := []byte{byte(i >> 8), byte(i)}
			w.Write(&source, &destination, payload)
			p := read(t, far, false, six)
			if p.udp.Checksum() == 0xffff {
				p.check(t, &source, &destination, payload)
				zeros++
			}
			if p.udp.Checksum() == 0 {
				t.Fatalf("payload % x has no checksum", payload)
			}
		}
		if zeros == 0 {
			t.Error("no payload has this sum")
		}
		for port := range uint16(65535) { // and without a payload
			source.Port = port + 1
			if p := EmptyDatagram(&source, &destination); header.UDP(p[ipHeaderSize(six):]).Checksum() == 0 {
				t.Fatalf("port %d has no checksum", port+1)
			}
		}
	}
}

// Several datagrams go out in one write, as the kernel takes them apart (Virtio 1.2,
// section 5.1.6.2): the header tells one's size, the sum is over all.
func TestDatagramsInOneWrite(t *testing.T) {
	for _, six := range []bool{false, true} {
		e, far := pair(t, true)
		w := NewDatagramWriter(e)
		source, destination := ends(six)
		if !w.Together() {
			t.Fatal("not together with virtio-net headers")
		}
		for _, c := range []struct{ count, size, last int }{{2, 1000, 1000}, {2, 1000, 1}, {3, 1, 1}, {MaxTogether, 1000, 999}, {46, 1400, 1400}} {
			payload := some((c.count-1)*c.size + c.last)
			var payloads [][]byte
			for i := 0; i < len(payload); i += c.size {
				payloads = append(payloads, payload[i:min(i+c.size, len(payload))])
			}
			w.Write(&source, &destination, payloads...)
			p := read(t, far, true, six)
			p.check(t, &source, &destination, payload)
			order := binary.NativeEndian
			if p.header[1] != gsoUDP || int(order.Uint16(p.header[2:])) != ipHeaderSize(six)+8 || int(order.Uint16(p.header[4:])) != c.size {
				t.Errorf("%+v: the virtio header is % x", c, p.header)
			}
		}
		if e.PacketsOut.Load() != 5 || e.SegmentedOut.Load() != 5 {
			t.Errorf("%d out, %d segmented", e.PacketsOut.Load(), e.SegmentedOut.Load())
		}
		w.Write(&source, &destination, some(10))
		p := read(t, far, true, six)
		if p.check(t, &source, &destination, some(10)); p.header[1] != 0 {
			t.Errorf("one after several is described as several: % x", p.header)
		}
	}
	if e, _ := pair(t, false); NewDatagramWriter(e).Together() {
		t.Error("together without virtio-net headers")
	}
}

// A datagram fits if the packet is no larger than the MTU.
func TestDatagramFits(t *testing.T) {
	e, _ := pair(t, false)
	w := NewDatagramWriter(e)
	for size, want := range map[int][2]bool{0: {true, true}, 1452: {true, true}, 1453: {true, false}, 1472: {true, false}, 1473: {false, false}, 65507: {false, false}} {
		if w.Fits(size, false) != want[0] || w.Fits(size, true) != want[1] {
			t.Errorf("%d bytes: %t, %t", size, w.Fits(size, false), w.Fits(size, true))
		}
	}
}

// What the device does not take is dropped and counted, datagram by datagram; the
// next one that it takes goes out, and none once the endpoint is closed.
func TestDatagramWriterDrops(t *testing.T) {
	e, far := pair(t, true)
	w := NewDatagramWriter(e)
	source, destination := ends(false)
	for e.WriteDrops.Load() == 0 {
		w.Write(&source, &destination, some(1400), some(1400), some(1400))
	}
	if e.WriteDrops.Load() != 3 {
		t.Errorf("%d drops of 3", e.WriteDrops.Load())
	}
	for range e.PacketsOut.Load() {
		read(t, far, true, false)
	}
	w.Write(&source, &destination, some(3))
	p := read(t, far, true, false)
	p.check(t, &source, &destination, some(3))
	e.Close()
	out := e.PacketsOut.Load()
	w.Write(&source, &destination, some(3))
	if _, err := unix.Read(far, make([]byte, 100)); err != unix.EAGAIN || e.PacketsOut.Load() != out {
		t.Errorf("after Close: %v, %d out", err, e.PacketsOut.Load())
	}
}
