package link

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// pair is an endpoint and the other end of its device.
func pair(t *testing.T, vnet bool) (*Endpoint, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
		t.Cleanup(func() { _ = unix.Close(fd) })
	}
	return New(fds[0], 1500, vnet), fds[1]
}

func ip4(size int) []byte {
	p := make([]byte, size)
	header.IPv4(p).Encode(&header.IPv4Fields{TotalLength: uint16(size), TTL: 1, Protocol: 253})
	header.IPv4(p).SetChecksum(^header.IPv4(p).CalculateChecksum())
	for i := header.IPv4MinimumSize; i < size; i++ {
		p[i] = byte(i ^ i>>8)
	}
	return p
}

func send(t *testing.T, fd int, p []byte) {
	t.Helper()
	if err := unix.Send(fd, p, 0); err != nil {
		t.Fatal(err)
	}
}

// Packets of every size come out as they went in, small and large ones mixed:
// none shares memory with the next.
func TestRead(t *testing.T) {
	for _, vnet := range []bool{false, true} {
		e, far := pair(t, vnet)
		if _, ok, errno := e.Read(); ok || errno != unix.EAGAIN {
			t.Errorf("an empty device: %t, %v", ok, errno)
		}
		var taken taker
		e.Attach(&taken)
		sizes := []int{20, 1500, copyBelow - 1, copyBelow, copyBelow + 1, maxPacket, 21, maxPacket}
		for _, size := range sizes {
			p := ip4(size)
			if vnet {
				p = append(make([]byte, VirtioHeaderSize), p...)
			}
			send(t, far, p)
			got, ok, errno := e.Read()
			if !ok || errno != 0 {
				t.Fatalf("vnet %t, %d bytes: %t, %v", vnet, size, ok, errno)
			}
			e.Deliver(got)
		}
		for i, size := range sizes {
			view := taken.packets[i].ToView()
			if !bytes.Equal(view.AsSlice(), ip4(size)) {
				t.Errorf("vnet %t, %d bytes: not what was sent", vnet, size)
			}
			view.Release()
			taken.packets[i].DecRef()
		}
		if n := e.PacketsIn.Load(); n != uint64(len(sizes)) || e.Malformed.Load() != 0 {
			t.Errorf("%d packets, %d malformed", n, e.Malformed.Load())
		}
	}
}

// What is no IP packet is counted and not given on.
func TestMalformed(t *testing.T) {
	bad := [][]byte{{0}, {0x50, 0}, bytes.Repeat([]byte{0xff}, 60)}
	for _, vnet := range []bool{false, true} {
		e, far := pair(t, vnet)
		n := uint64(0)
		for _, p := range bad {
			if vnet {
				p = append(make([]byte, VirtioHeaderSize), p...)
			}
			send(t, far, p)
			n++
		}
		if vnet {
			for _, size := range []int{1, VirtioHeaderSize - 1, VirtioHeaderSize} {
				send(t, far, make([]byte, size))
				n++
			}
		}
		for range n {
			if _, ok, errno := e.Read(); ok || errno != 0 {
				t.Errorf("vnet %t: %t, %v", vnet, ok, errno)
			}
		}
		if e.Malformed.Load() != n || e.PacketsIn.Load() != n {
			t.Errorf("vnet %t: %d of %d malformed", vnet, e.Malformed.Load(), n)
		}
	}
}

// A packet that came in several segments is counted as such.
func TestSegmentedIsCounted(t *testing.T) {
	e, far := pair(t, true)
	for kind := range byte(6) {
		h := make([]byte, VirtioHeaderSize)
		h[0], h[1] = flagNeedsChecksum, kind
		send(t, far, append(h, ip4(3000)...))
		if _, ok, _ := e.Read(); !ok {
			t.Fatal("not read")
		}
	}
	if n := e.SegmentedIn.Load(); n != 5 {
		t.Errorf("%d segmented, not 5", n)
	}
}

// The virtio header says what the kernel needs to cut a large segment and to
// sum it, and no more for one that needs no cutting (Virtio 1.2, 5.1.6).
func TestDescribe(t *testing.T) {
	type fields struct {
		flags, kind                byte
		headers, mss, start, place uint16
	}
	four := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: 16, MSS: 1448, L3HdrLen: 20}
	six := stack.GSO{Type: stack.GSOTCPv6, NeedsCsum: true, CsumOffset: 16, MSS: 1428, L3HdrLen: 40}
	for name, c := range map[string]struct {
		gso             stack.GSO
		size, transport int
		want            fields
	}{
		"IPv4, many":           {four, 20 + 32 + 60000, 32, fields{1, 1, 52, 1448, 20, 16}},
		"IPv6, many":           {six, 40 + 32 + 60000, 32, fields{1, 4, 72, 1428, 40, 16}},
		"IPv4, one byte more":  {four, 20 + 32 + 1449, 32, fields{1, 1, 52, 1448, 20, 16}},
		"IPv4, exactly one":    {four, 20 + 32 + 1448, 32, fields{1, 0, 0, 0, 20, 16}},
		"IPv6, exactly one":    {six, 40 + 32 + 1428, 32, fields{1, 0, 0, 0, 40, 16}},
		"IPv4, no payload":     {four, 20 + 20, 20, fields{1, 0, 0, 0, 20, 16}},
		"none":                 {stack.GSO{}, 1500, 20, fields{}},
		"no checksum asked of": {stack.GSO{Type: stack.GSOTCPv4, MSS: 1448, L3HdrLen: 20}, 60000, 20, fields{}},
	} {
		h := virtioHeader{1, 2, 3, 4, 5, 6, 7, 8, 9, 10} // of the packet before
		h.describe(&c.gso, c.size, c.transport)
		order := binary.NativeEndian
		got := fields{h[0], h[1], order.Uint16(h[2:]), order.Uint16(h[4:]), order.Uint16(h[6:]), order.Uint16(h[8:])}
		if got != c.want {
			t.Errorf("%s: %+v, not %+v", name, got, c.want)
		}
		if h.segmented() != (c.want.kind != 0) {
			t.Errorf("%s: segmented is %t", name, h.segmented())
		}
	}
}

func outgoing(parts ...[]byte) *stack.PacketBuffer {
	var payload buffer.Buffer
	for _, part := range parts {
		// Appended, small ones would become one.
		piece := buffer.MakeWithData(part)
		payload.Merge(&piece)
	}
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: payload})
}

func write(e *Endpoint, packets ...*stack.PacketBuffer) int {
	var list stack.PacketBufferList
	for _, p := range packets {
		list.PushBack(p)
	}
	n, _ := e.WritePackets(list)
	list.Reset()
	return n
}

// Each packet goes out in one piece, whatever pieces it is made of and however
// many, with a header of zeros where nothing is offloaded.
func TestWrite(t *testing.T) {
	for _, vnet := range []bool{false, true} {
		e, far := pair(t, vnet)
		p := ip4(5000)
		many := make([][]byte, 0, 50)
		for i := 0; i < len(p); i += 100 {
			many = append(many, p[i:i+100])
		}
		each := make([][]byte, 0, len(p))
		for i := range p {
			each = append(each, p[i:i+1])
		}
		if n := write(e, outgoing(p), outgoing(many...), outgoing(p[:20], p[20:]), outgoing(each...)); n != 4 {
			t.Errorf("%d written", n)
		}
		want := p
		if vnet {
			want = append(make([]byte, VirtioHeaderSize), p...)
		}
		got := make([]byte, 70000)
		for i := range 4 {
			n, err := unix.Read(far, got)
			if err != nil || !bytes.Equal(got[:n], want) {
				t.Errorf("vnet %t, packet %d: %d bytes, %v", vnet, i, n, err)
			}
		}
		if e.PacketsOut.Load() != 4 || e.WriteDrops.Load() != 0 {
			t.Errorf("%d out, %d dropped", e.PacketsOut.Load(), e.WriteDrops.Load())
		}
	}
}

// A packet that the device does not take is dropped and counted; the next one
// that it takes goes out.
func TestWriteDrops(t *testing.T) {
	e, far := pair(t, false)
	dropped := uint64(0)
	for range 100000 {
		write(e, outgoing(ip4(1500)))
		if dropped = e.WriteDrops.Load(); dropped > 2 {
			break
		}
	}
	if dropped != 3 {
		t.Fatalf("%d drops", dropped)
	}
	sent := e.PacketsOut.Load()
	sink := make([]byte, 2000)
	for range sent {
		if _, err := unix.Read(far, sink); err != nil {
			t.Fatalf("%s: fewer came than were counted", err)
		}
	}
	write(e, outgoing(ip4(1500)))
	if e.PacketsOut.Load() != sent+1 || e.WriteDrops.Load() != 3 {
		t.Errorf("%d out, %d dropped", e.PacketsOut.Load(), e.WriteDrops.Load())
	}
}

// A packet for a stack that is not there yet, or no more, is thrown away.
func TestDeliverToNobody(t *testing.T) {
	e, far := pair(t, false)
	send(t, far, ip4(100))
	p, ok, _ := e.Read()
	if !ok {
		t.Fatal("not read")
	}
	e.Deliver(p)
	if e.IsAttached() {
		t.Error("attached")
	}
}

// taker keeps what a stack would get.
type taker struct {
	stack.NetworkDispatcher
	packets []*stack.PacketBuffer
}

func (t *taker) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, packet *stack.PacketBuffer) {
	t.packets = append(t.packets, packet.IncRef())
}
