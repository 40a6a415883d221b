// Package link is the link endpoint for a TUN device, with and without
// virtio-net headers.
//
// gVisor's fdbased endpoint does segmentation offload for packet sockets only
// and takes an Ethernet header for granted in csum_start, so this one is ours.
// It neither owns the fd nor reads on its own: the caller asks for a packet
// with Read and hands it to the stack with Deliver.
package link

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// maxPacket is the largest IP packet, and the largest segment that
	// offload passes at once.
	maxPacket = 65535

	// copyBelow: a packet smaller than this many bytes is copied to a buffer
	// of its own size, so that a queue of small packets does not pin a 64 KiB
	// buffer for each. Copying this much costs less than clearing a new one.
	copyBelow = 16 << 10
)

// Endpoint implements stack.LinkEndpoint and stack.GSOEndpoint.
type Endpoint struct {
	fd      int
	vnet    bool
	mtu     atomic.Uint32
	scratch scratch
	writing sync.RWMutex // held for reading by each write
	stopped bool

	together atomic.Bool // the kernel takes several datagrams in one write
	hold     hold

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher

	// Counters, of packets.
	PacketsIn    atomic.Uint64
	PacketsOut   atomic.Uint64
	SegmentedIn  atomic.Uint64 // of PacketsIn: came as one of several segments
	SegmentedOut atomic.Uint64
	Malformed    atomic.Uint64
	BadChecksum  atomic.Uint64
	WriteDrops   atomic.Uint64
}

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// scratch is what the one reader reads into.
type scratch struct {
	header virtioHeader
	view   *buffer.View
	iov    [2]unix.Iovec
}

// New makes an endpoint on a non-blocking fd that passes whole IP packets.
func New(fd int, mtu uint32, vnet bool) *Endpoint {
	e := &Endpoint{fd: fd, vnet: vnet}
	e.mtu.Store(mtu)
	e.together.Store(vnet)
	return e
}

// Packet is one packet from the device, good until the next Read.
type Packet struct {
	// Segment is the size in bytes of each datagram's payload when the packet
	// carries several of one UDP flow at once, else 0.
	Segment int

	data     []byte
	protocol tcpip.NetworkProtocolNumber
}

// Bytes is the packet from its IP header on.
func (p *Packet) Bytes() []byte { return p.data }

// Read takes one packet from the device. ok is false when what was read is no
// IP packet or has a wrong checksum; errno is EAGAIN when the device is empty.
func (e *Endpoint) Read() (p Packet, ok bool, errno unix.Errno) {
	s := &e.scratch
	if s.view == nil {
		s.view = buffer.NewViewSize(maxPacket)
	}
	room := s.view.AsSlice()
	s.iov[1].Base = &room[0]
	s.iov[1].SetLen(len(room))
	iov, count, headerSize := &s.iov[1], uintptr(1), 0
	if e.vnet {
		s.iov[0].Base = &s.header[0]
		s.iov[0].SetLen(VirtioHeaderSize)
		iov, count, headerSize = &s.iov[0], 2, VirtioHeaderSize
	}
	// Raw: the call never blocks, and the scheduler need not hear of it.
	n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(e.fd), uintptr(unsafe.Pointer(iov)), count)
	if errno != 0 {
		return Packet{}, false, errno
	}
	e.PacketsIn.Add(1)
	size := int(n) - headerSize
	if size <= 0 {
		e.Malformed.Add(1)
		return Packet{}, false, 0
	}
	p.protocol = tcpip.NetworkProtocolNumber(networkProtocol(room[:size]))
	if p.protocol == 0 {
		e.Malformed.Add(1)
		return Packet{}, false, 0
	}
	p.data = room[:size]
	vouched := false
	if e.vnet {
		if s.header.segmented() {
			e.SegmentedIn.Add(1)
			p.Segment = s.header.datagramSize()
		}
		vouched = s.header.checksumKnown()
	}
	// Without virtio-net headers the stack verifies what it gets.
	if !vouched && (e.vnet || pastTheStack(p.data)) && !intact(p.data) {
		e.BadChecksum.Add(1)
		return Packet{}, false, 0
	}
	return p, true, 0
}

// Deliver gives the packet that was read last to the stack.
func (e *Endpoint) Deliver(p Packet) {
	e.mu.RLock()
	dispatcher := e.dispatcher
	e.mu.RUnlock()
	if dispatcher == nil {
		return
	}
	var view *buffer.View
	if len(p.data) < copyBelow {
		view = buffer.NewViewWithData(p.data)
	} else {
		view, e.scratch.view = e.scratch.view, nil
		view.CapLength(len(p.data))
	}
	deliver(dispatcher, p.protocol, view)
}

// Inject gives the stack a packet that the device did not bring. Any goroutine
// may call it.
func (e *Endpoint) Inject(packet []byte) {
	e.mu.RLock()
	dispatcher := e.dispatcher
	e.mu.RUnlock()
	if dispatcher != nil {
		deliver(dispatcher, tcpip.NetworkProtocolNumber(networkProtocol(packet)), buffer.NewViewWithData(packet))
	}
}

func deliver(dispatcher stack.NetworkDispatcher, protocol tcpip.NetworkProtocolNumber, view *buffer.View) {
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
	dispatcher.DeliverNetworkPacket(protocol, packet)
	packet.DecRef()
}

// maxPieces is how many pieces writev(2) takes (UIO_MAXIOV of linux/uio.h). A large
// segment of bytes that came one by one has more.
const maxPieces = 1024

// gather is what one write needs, reused between writes.
type gather struct {
	header virtioHeader
	iov    []unix.Iovec
}

var gathers = sync.Pool{New: func() any { return &gather{iov: make([]unix.Iovec, 0, 16)} }}

// WritePackets implements stack.LinkWriter.WritePackets: each packet goes out
// in one write, in the thread of the caller. A packet that the device does not
// take is dropped and counted, as on any link.
func (e *Endpoint) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	e.writing.RLock()
	defer e.writing.RUnlock()
	if e.stopped {
		return packets.Len(), nil
	}
	g := gathers.Get().(*gather)
	for _, packet := range packets.AsSlice() {
		kept, first := e.hold.keeps(packet)
		if first != nil {
			e.write(g, first)
			first.DecRef()
		}
		if !kept {
			e.write(g, packet)
		}
	}
	g.release()
	return packets.Len(), nil
}

func (g *gather) release() {
	clear(g.iov[:cap(g.iov)])
	gathers.Put(g)
}

// writeOne writes a packet and lets go of it.
func (e *Endpoint) writeOne(packet *stack.PacketBuffer) {
	defer packet.DecRef()
	e.writing.RLock()
	defer e.writing.RUnlock()
	if e.stopped {
		return
	}
	g := gathers.Get().(*gather)
	e.write(g, packet)
	g.release()
}

func (e *Endpoint) write(g *gather, packet *stack.PacketBuffer) {
	g.iov = g.iov[:0]
	if e.vnet {
		g.header.describe(&packet.GSOOptions, packet.Size(), len(packet.TransportHeader().Slice()))
		if g.header.segmented() {
			e.SegmentedOut.Add(1)
		}
		g.iov = append(g.iov, unix.Iovec{Base: &g.header[0], Len: VirtioHeaderSize})
	}
	headers := len(g.iov)
	views, offset := packet.AsViewList()
	for view := views.Front(); view != nil; view = view.Next() {
		part := view.AsSlice()
		if offset >= len(part) {
			offset -= len(part)
			continue
		}
		part = part[offset:]
		offset = 0
		g.iov = append(g.iov, unix.Iovec{Base: &part[0], Len: uint64(len(part))})
	}
	if len(g.iov) > maxPieces {
		// The kernel would take it no more when it is sent again.
		whole := packet.ToView()
		defer whole.Release()
		g.iov = append(g.iov[:headers], unix.Iovec{Base: &whole.AsSlice()[0], Len: uint64(whole.Size())})
	}
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(e.fd), uintptr(unsafe.Pointer(&g.iov[0])), uintptr(len(g.iov)))
	if errno != 0 {
		e.WriteDrops.Add(1)
		return
	}
	e.PacketsOut.Add(1)
}

// SupportedGSO implements stack.GSOEndpoint. Without virtio-net headers gVisor
// builds large segments all the same and cuts them last of all.
func (e *Endpoint) SupportedGSO() stack.SupportedGSO {
	if e.vnet {
		return stack.HostGSOSupported
	}
	return stack.GVisorGSOSupported
}

// GSOMaxSize implements stack.GSOEndpoint.
func (e *Endpoint) GSOMaxSize() uint32 { return maxPacket }

// Capabilities implements stack.NetworkLinkEndpoint. TX checksum offload is not
// claimed: packets outside GSO, such as a RST, would go out without a checksum.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	if e.vnet {
		return stack.CapabilityRXChecksumOffload // see intact
	}
	return 0
}

// MTU implements stack.NetworkLinkEndpoint.
func (e *Endpoint) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.NetworkLinkEndpoint.
func (e *Endpoint) SetMTU(mtu uint32) { e.mtu.Store(mtu) }

// MaxHeaderLength implements stack.NetworkLinkEndpoint: IP packets only.
func (e *Endpoint) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.NetworkLinkEndpoint.
func (e *Endpoint) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.NetworkLinkEndpoint.
func (e *Endpoint) SetLinkAddress(tcpip.LinkAddress) {}

// ARPHardwareType implements stack.NetworkLinkEndpoint.
func (e *Endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.NetworkLinkEndpoint.
func (e *Endpoint) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.NetworkLinkEndpoint.
func (e *Endpoint) ParseHeader(*stack.PacketBuffer) bool { return true }

// Attach implements stack.NetworkLinkEndpoint.
func (e *Endpoint) Attach(dispatcher stack.NetworkDispatcher) {
	e.mu.Lock()
	e.dispatcher = dispatcher
	e.mu.Unlock()
}

// IsAttached implements stack.NetworkLinkEndpoint.
func (e *Endpoint) IsAttached() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.dispatcher != nil
}

// Wait implements stack.NetworkLinkEndpoint: there are no goroutines here.
func (e *Endpoint) Wait() {}

// Close implements stack.NetworkLinkEndpoint. The fd is the caller's, who may
// close it now: no timer of an endpoint that is left writes to its number again.
func (e *Endpoint) Close() {
	e.writing.Lock()
	e.stopped = true
	e.writing.Unlock()
	e.FlushHeld(0, time.Now()) // which only lets go of it
}

// SetOnCloseAction implements stack.NetworkLinkEndpoint.
func (e *Endpoint) SetOnCloseAction(func()) {}
