package engine

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/header/parse"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/link"
)

// UDP does not use the stack's endpoints: a datagram needs no state but the table's,
// and without the stack it costs a third. The stack only reassembles and makes
// fragments, and answers with ICMP.

// listens is the set of the gateway's ports that something listens on.
type listens struct {
	ports atomic.Pointer[map[listenKey]struct{}]
}

type listenKey struct {
	protocol tcpip.TransportProtocolNumber
	port     uint16
}

func (l *listens) has(protocol tcpip.TransportProtocolNumber, port uint16) bool {
	ports := l.ports.Load()
	if ports == nil {
		return false
	}
	_, ok := (*ports)[listenKey{protocol, port}]
	return ok
}

// Listen opens a port of the gateway. It is called from one thread.
func (e *Engine) Listen(protocol, port uint32) error {
	known := protocol == uint32(header.TCPProtocolNumber) || protocol == uint32(header.UDPProtocolNumber)
	if !known || port == 0 || port > 65535 {
		return unix.EINVAL
	}
	ports := map[listenKey]struct{}{{tcpip.TransportProtocolNumber(protocol), uint16(port)}: {}}
	if old := e.listens.ports.Load(); old != nil {
		for k := range *old {
			ports[k] = struct{}{}
		}
	}
	e.listens.ports.Store(&ports)
	return nil
}

// Datagrams is the table of UDP.
func (e *Engine) Datagrams() *datagram.Table { return e.datagrams }

func (e *Engine) openDatagrams() {
	e.datagrams = datagram.New(datagram.Config{
		Undecided:    e.config.PendingLimit,
		UndecidedOf:  max(1, e.config.PendingLimit/2),
		Flows:        e.config.DatagramFlows,
		Associations: e.config.Associations,
		Timeout:      e.config.UDPTimeout,
		Gateway4:     e.gateways.four,
		Gateway6:     e.gateways.six,
		Link:         e.link,
		Loops:        e.loops,
		Events:       e.events,
		Post:         e.post,
		NextFlow:     func() uint64 { e.nextFlow++; return e.nextFlow },
		Reject:       e.rejectDatagram,
		Fragment:     e.fragment,
	})
}

// takeDatagrams takes a UDP packet past the stack.
func (e *Engine) takeDatagrams(t *tuple, p link.Packet) {
	packet := p.Bytes()
	transport := packet[ipHeaderSize(packet):]
	payload, ok := udpPayload(transport, t.six)
	if !ok {
		e.link.Malformed.Add(1)
		return
	}
	if how := e.takePayload(t, payload, p.Segment); how != 0 {
		source, destination := t.ends()
		e.rejectDatagram(&source, &destination, datagram.Refusal(how))
	}
}

func ipHeaderSize(packet []byte) int {
	if header.IPVersion(packet) == header.IPv6Version {
		return header.IPv6MinimumSize // the only headers that glance finds
	}
	return int(header.IPv4(packet).HeaderLength())
}

// udpPayload is what a UDP header says its payload is. RFC 8200, section 8.1: over
// IPv6 there is no datagram without a checksum.
func udpPayload(transport []byte, six bool) ([]byte, bool) {
	length := int(binary.BigEndian.Uint16(transport[4:]))
	if length < header.UDPMinimumSize || length > len(transport) {
		return nil, false
	}
	if six && header.UDP(transport).Checksum() == 0 {
		return nil, false
	}
	return transport[header.UDPMinimumSize:length], true
}

// takePayload returns a refusal for the caller to send.
func (e *Engine) takePayload(t *tuple, payload []byte, segment int) Refusal {
	source, destination := t.ends()
	if source.Port == 0 || destination.Port == 0 {
		e.link.Malformed.Add(1) // RFC 768: there is no port 0 to answer, and no socket sends to it
		return 0
	}
	if e.gateways.has(t) {
		if e.listens.has(header.UDPProtocolNumber, t.destinationPort) {
			e.datagrams.Serve(&source, &destination, payload, segment)
		} else {
			e.dropToGate.Add(1)
		}
		return 0
	}
	return Refusal(e.datagrams.Take(&source, &destination, payload, segment))
}

// flushDatagrams sends what was taken, before the thread that has the device does
// anything else.
func (e *Engine) flushDatagrams() {
	e.datagrams.Flush()
	if e.datagrams.Services.Tell() {
		e.post(events.Event{Kind: events.Datagrams})
	}
}

// ServeDatagrams gives a flow's datagrams to Python.
func (e *Engine) ServeDatagrams(flow uint64) error {
	if err := e.datagrams.ServeFlow(flow); err != nil {
		return err
	}
	if e.datagrams.Services.Tell() {
		e.events.Post(events.Event{Kind: events.Datagrams})
	}
	return nil
}

// reassembled gets the UDP packets that went through the stack: fragments that
// are whole again, and those with odd IPv6 headers.
func (e *Engine) reassembled(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
	t := tupleOf(id)
	hdr := header.UDP(packet.TransportHeader().Slice())
	data := packet.Data()
	size := int(hdr.Length()) - header.UDPMinimumSize
	// It has not been verified yet: the checksum of fragments cannot be left to the
	// receiver.
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, id.RemoteAddress, id.LocalAddress, hdr.Length())
	valid := hdr.Checksum() == 0 && !t.six || hdr.CalculateChecksum(checksum.Combine(sum, data.Checksum())) == 0xffff
	if size < 0 || size != data.Size() || !valid {
		e.stack.Stats().UDP.ChecksumErrors.Increment()
		return true
	}
	view := data.AsRange().ToView()
	if view != nil { // nil for an empty payload
		defer view.Release()
	}
	if how := e.takePayload(&t, view.AsSlice(), 0); how != 0 {
		source, destination := t.ends()
		e.rejectDatagram(&source, &destination, datagram.Refusal(how))
	}
	return true
}

// rejectDatagram answers a datagram by its headers alone: they are what the app's
// kernel looks at (RFC 1122, section 4.1.3.3).
func (e *Engine) rejectDatagram(source, destination *link.End, how datagram.Refusal) {
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{
		Payload: buffer.MakeWithData(link.EmptyDatagram(source, destination)),
	})
	defer packet.DecRef()
	packet.NICID = nic
	if source.Six() {
		packet.NetworkProtocolNumber = ipv6.ProtocolNumber
		parse.IPv6(packet)
	} else {
		packet.NetworkProtocolNumber = ipv4.ProtocolNumber
		parse.IPv4(packet)
	}
	parse.UDP(packet)
	e.reject(packet, source.Six(), Refusal(how))
}

// fragment writes a datagram that is larger than the MTU, by way of the stack.
func (e *Engine) fragment(source, destination *link.End, payload []byte) {
	protocol := ipv4.ProtocolNumber
	if source.Six() {
		protocol = ipv6.ProtocolNumber
	}
	route, err := e.stack.FindRoute(nic, tcpip.AddrFromSlice(source.Bytes()), tcpip.AddrFromSlice(destination.Bytes()), protocol, false)
	if err != nil {
		e.link.WriteDrops.Add(1)
		return
	}
	defer route.Release()
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(route.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(payload),
	})
	defer packet.DecRef()
	hdr := header.UDP(packet.TransportHeader().Push(header.UDPMinimumSize))
	packet.TransportProtocolNumber = header.UDPProtocolNumber
	length := uint16(header.UDPMinimumSize + len(payload))
	hdr.Encode(&header.UDPFields{SrcPort: source.Port, DstPort: destination.Port, Length: length})
	sum := route.PseudoHeaderChecksum(header.UDPProtocolNumber, length)
	sum = ^hdr.CalculateChecksum(checksum.Combine(sum, packet.Data().Checksum()))
	if sum == 0 {
		sum = 0xffff
	}
	hdr.SetChecksum(sum)
	params := stack.NetworkHeaderParams{Protocol: header.UDPProtocolNumber, TTL: 64}
	if err := route.WritePacket(params, packet); err != nil {
		e.link.WriteDrops.Add(1)
	}
}
