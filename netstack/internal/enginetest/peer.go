// Package enginetest is for tests only: one TCP endpoint whose peer the test plays,
// segment by segment.
package enginetest

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	nic       = 1
	localPort = 443
	peerPort  = 40000
	patience  = 10 * time.Second

	// TimeWait is how long the endpoint stays in TIME-WAIT.
	TimeWait = 20 * time.Millisecond
)

var (
	local = tcpip.AddrFrom4([4]byte{203, 0, 113, 7})
	peer  = tcpip.AddrFrom4([4]byte{198, 18, 0, 2})
)

// Peer is the other end of Endpoint.
type Peer struct {
	Stack    *stack.Stack
	Endpoint *tcp.Endpoint

	// Options are the TCP options of all segments that are sent, a multiple of 4 bytes.
	Options []byte

	t        *testing.T
	link     *channel.Endpoint
	seq, ack uint32
}

// New makes a stack that has no endpoint yet.
func New(t *testing.T) *Peer {
	t.Helper()
	p := &Peer{t: t, link: channel.New(4096, 1500, ""), seq: 1000}
	p.Stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	t.Cleanup(p.Stack.Destroy)
	timeWait := tcpip.TCPTimeWaitTimeoutOption(TimeWait)
	for _, err := range []tcpip.Error{
		p.Stack.SetTransportProtocolOption(tcp.ProtocolNumber, &timeWait),
		p.Stack.CreateNIC(nic, p.link),
		p.Stack.SetPromiscuousMode(nic, true),
		p.Stack.SetSpoofing(nic, true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.Stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return p
}

// Establish makes a stack and, on the queue, an established endpoint.
func Establish(t *testing.T, queue *waiter.Queue) *Peer {
	t.Helper()
	p := New(t)
	made := make(chan tcpip.Endpoint, 1)
	forward := tcp.NewForwarder(p.Stack, 1<<20, 1, func(request *tcp.ForwarderRequest) {
		ep, _ := request.CreateEndpoint(queue)
		request.Complete(false)
		made <- ep
	})
	p.Stack.SetTransportProtocolHandler(tcp.ProtocolNumber, forward.HandlePacket)
	p.Send(header.TCPFlagSyn, nil)
	p.ack = p.Await("the SYN-ACK", header.TCPFlagSyn).SequenceNumber() + 1
	p.Send(header.TCPFlagAck, nil)
	select {
	case ep := <-made:
		if ep == nil {
			t.Fatal("the handshake failed")
		}
		p.Endpoint = ep.(*tcp.Endpoint)
	case <-time.After(patience):
		t.Fatal("the handshake hangs")
	}
	return p
}

// SYN gives take the packet of a SYN, as the stack's handler for what nobody claims gets it.
func (p *Peer) SYN(take func(stack.TransportEndpointID, *stack.PacketBuffer)) {
	p.Stack.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
		take(id, packet)
		return true
	})
	p.Send(header.TCPFlagSyn, nil)
	p.Stack.SetTransportProtocolHandler(tcp.ProtocolNumber, nil)
}

// Skip has the next segment that is sent be so many bytes further on.
func (p *Peer) Skip(seq, ack uint32) { p.seq, p.ack = p.seq+seq, p.ack+ack }

// Send gives a segment to the stack, in the caller's goroutine.
func (p *Peer) Send(flags header.TCPFlags, payload []byte) {
	size := header.TCPMinimumSize + len(p.Options)
	b := make([]byte, header.IPv4MinimumSize+size+len(payload))
	ip, segment := header.IPv4(b), header.TCP(b[header.IPv4MinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: peer, DstAddr: local,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	segment.Encode(&header.TCPFields{
		SrcPort: peerPort, DstPort: localPort, SeqNum: p.seq, AckNum: p.ack,
		DataOffset: uint8(size), Flags: flags, WindowSize: 65535,
	})
	copy(segment[header.TCPMinimumSize:], p.Options)
	copy(segment[size:], payload)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, peer, local, uint16(len(segment)))
	segment.SetChecksum(^checksum.Checksum(segment, sum))
	p.seq += uint32(len(payload))
	if flags&(header.TCPFlagSyn|header.TCPFlagFin) != 0 {
		p.seq++
	}
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	p.link.InjectInbound(header.IPv4ProtocolNumber, packet)
	packet.DecRef()
}

// Await waits for a segment with the flag, and acknowledges all of it with the
// next Send.
func (p *Peer) Await(what string, flag header.TCPFlags) header.TCP {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		if segment := p.Sent(); segment != nil && segment.Flags().Contains(flag) {
			return segment
		}
	}
	p.t.Fatalf("%s does not come", what)
	panic("unreachable")
}

// SentNext is Sent without what was sent a second time because the test was slow.
func (p *Peer) SentNext() header.TCP {
	for {
		expected := p.ack
		segment := p.Sent()
		if segment == nil || segment.SequenceNumber() == expected || len(segment.Payload()) == 0 {
			return segment
		}
		p.ack = expected
	}
}

// Sent returns a segment that the stack has sent, nil if there is none.
func (p *Peer) Sent() header.TCP {
	packet := p.link.Read()
	if packet == nil {
		return nil
	}
	view := packet.ToView()
	packet.DecRef()
	ip := header.IPv4(view.AsSlice())
	segment := header.TCP(ip.Payload())
	p.ack = segment.SequenceNumber() + uint32(len(segment.Payload()))
	if segment.Flags()&(header.TCPFlagSyn|header.TCPFlagFin) != 0 {
		p.ack++
	}
	return segment
}
