package direct

import (
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// gVisor's types that have no exported name are unsafe.Pointer here: protocol,
// listenContext, handshake, segment and segmentQueue.

//go:linkname protocolFromStack gvisor.dev/gvisor/pkg/tcpip/transport/tcp.protocolFromStack
func protocolFromStack(s *stack.Stack) unsafe.Pointer

//go:linkname newListenContext gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newListenContext
func newListenContext(s *stack.Stack, protocol unsafe.Pointer, listener *tcp.Endpoint, window seqnum.Size, v6Only bool, network tcpip.NetworkProtocolNumber) unsafe.Pointer

//go:linkname newIncomingSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newIncomingSegment
func newIncomingSegment(id stack.TransportEndpointID, clock tcpip.Clock, packet *stack.PacketBuffer) (unsafe.Pointer, error)

//go:linkname parseSynSegmentOptions gvisor.dev/gvisor/pkg/tcpip/transport/tcp.parseSynSegmentOptions
func parseSynSegmentOptions(segment unsafe.Pointer) header.TCPSynOptions

//go:linkname segmentDecRef gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segment).DecRef
func segmentDecRef(segment unsafe.Pointer)

//go:linkname startHandshake gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*listenContext).startHandshake
func startHandshake(context, segment unsafe.Pointer, options header.TCPSynOptions, queue *waiter.Queue, owner tcpip.PacketOwner) (unsafe.Pointer, tcpip.Error)

//go:linkname dequeue gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segmentQueue).dequeue
func dequeue(queue unsafe.Pointer) unsafe.Pointer

//go:linkname checkAck gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*handshake).checkAck
func checkAck(handshake, segment unsafe.Pointer) bool

//go:linkname handleSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*handshake).handleSegment
func handleSegment(handshake, segment unsafe.Pointer) tcpip.Error

//go:linkname sendEmptyRaw gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).sendEmptyRaw
func sendEmptyRaw(ep *tcp.Endpoint, flags header.TCPFlags, seq, ack seqnum.Value, window seqnum.Size) tcpip.Error

//go:linkname handshakeFailed gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).handshakeFailed
func handshakeFailed(ep *tcp.Endpoint, err tcpip.Error)

// Where gVisor's structs have what is needed here.
var (
	endpointType    = reflect.TypeFor[tcp.Endpoint]()
	handshakeOffset = offsetOf(endpointType, "h", reflect.Pointer)
	segmentsOffset  = offsetOf(endpointType, "segmentQueue", reflect.Struct)
	handshakeType   = typeOf(endpointType, "h").Elem()
	recoveryOffset  = offsetOf(endpointType, "tcpRecovery", reflect.Int32)
	endpointOffset  = offsetOf(handshakeType, "ep", reflect.Pointer)
	segmentType     = typeOf(typeOf(typeOf(endpointType, "segmentQueue"), "list"), "head").Elem()
	flagsOffset     = offsetOf(segmentType, "flags", reflect.Uint8)
	ackNumberOffset = offsetOf(segmentType, "ackNumber", reflect.Uint32)
)

func fieldOf(t reflect.Type, name string) reflect.StructField {
	field, ok := t.FieldByName(name)
	if !ok {
		panic("gVisor's " + t.String() + " has no " + name)
	}
	return field
}

func typeOf(t reflect.Type, name string) reflect.Type { return fieldOf(t, name).Type }

func offsetOf(t reflect.Type, name string, kind reflect.Kind) uintptr {
	field := fieldOf(t, name)
	if field.Type.Kind() != kind {
		panic("gVisor's " + t.String() + " has a " + name + " that is " + field.Type.String())
	}
	return field.Offset
}

// at is a field of a struct.
func at[T any](in unsafe.Pointer, offset uintptr) *T { return (*T)(unsafe.Add(in, offset)) }

// handshakeOf is where an endpoint has its handshake, for one that holds its lock.
func handshakeOf(ep *tcp.Endpoint) *unsafe.Pointer {
	return at[unsafe.Pointer](unsafe.Pointer(ep), handshakeOffset)
}

// Listener answers SYNs, as a forwarder does whose every request gets an endpoint, but in
// the caller's goroutine and without waiting for the ACK.
type Listener struct {
	clock   tcpip.Clock
	context unsafe.Pointer
}

// NewListener makes a listener for any number of endpoints; window is the one that they
// offer, in bytes.
func NewListener(s *stack.Stack, window int) *Listener {
	return &Listener{
		clock:   s.Clock(),
		context: newListenContext(s, protocolFromStack(s), nil, seqnum.Size(window), true, 0),
	}
}

// Open makes an endpoint for a SYN and sends the SYN-ACK. From here on the stack finds the
// endpoint, repeats the SYN-ACK and, if nobody calls Abort, gives up after two minutes; the
// queue is notified when the handshake is done or has failed. Segments that come before
// Open returns are the processor's.
func (l *Listener) Open(id stack.TransportEndpointID, packet *stack.PacketBuffer, queue *waiter.Queue) (*tcp.Endpoint, tcpip.Error) {
	segment, err := newIncomingSegment(id, l.clock, packet)
	if err != nil {
		return nil, &tcpip.ErrMalformedHeader{}
	}
	defer segmentDecRef(segment)
	handshake, refused := startHandshake(l.context, segment, parseSynSegmentOptions(segment), queue, nil)
	if refused != nil {
		return nil, refused
	}
	return *at[*tcp.Endpoint](handshake, endpointOffset), nil
}

// ExpectLoss has an endpoint detect losses by time (RACK, RFC 8985) and control congestion by
// CUBIC, whatever the stack's options say.
func ExpectLoss(ep *tcp.Endpoint) {
	ep.LockUser()
	*at[tcpip.TCPRecovery](unsafe.Pointer(ep), recoveryOffset) = tcpip.TCPRACKLossDetection
	ep.UnlockUser()
	cubic := tcpip.CongestionControlOption("cubic")
	_ = ep.SetSockOpt(&cubic) // gVisor always has it
}

// finishOpening is Finish for an endpoint in SYN-RCVD. It returns whether the handshake is
// done, and what came with the ACK still to be handled; if not, it lets go of the endpoint.
func finishOpening(ep *tcp.Endpoint, queue *waiter.Queue) bool {
	handshake := *handshakeOf(ep)
	for ep.EndpointState() == tcp.StateSynRecv {
		segment := dequeue(unsafe.Add(unsafe.Pointer(ep), segmentsOffset))
		if segment == nil {
			ep.UnlockUser()
			return false
		}
		err := handleOpening(ep, handshake, segment)
		segmentDecRef(segment)
		if err != nil {
			handshakeFailed(ep, err)
			ep.UnlockUser()
			drainClosingSegments(ep)
			queue.Notify(everything)
			return false
		}
	}
	*handshakeOf(ep) = nil // or the endpoint would keep it for its whole life
	return true
}

// handleOpening handles a segment in SYN-RCVD. gVisor looks at the acknowledgement only for
// an endpoint that listens: anybody could complete the handshake of a made-up address.
func handleOpening(ep *tcp.Endpoint, handshake, segment unsafe.Pointer) tcpip.Error {
	flags := *at[header.TCPFlags](segment, flagsOffset)
	if flags.Contains(header.TCPFlagRst) || checkAck(handshake, segment) {
		return handleSegment(handshake, segment)
	}
	_ = sendEmptyRaw(ep, header.TCPFlagRst, *at[seqnum.Value](segment, ackNumberOffset), 0, 0)
	return nil
}

// Connected tells whether the endpoint's handshake is done and the connection has not ended.
func Connected(ep *tcp.Endpoint) bool { return handles(ep.EndpointState()) }

// Acknowledged tells whether the app of a connected endpoint has acknowledged the number of
// the SYN-ACK, and so has seen it. If not, a processor has completed the handshake, for a
// packet that was not delivered between Begin and Finish, and took any number.
func Acknowledged(ep *tcp.Endpoint) bool {
	ep.LockUser()
	defer ep.UnlockUser()
	return *handshakeOf(ep) == nil
}

// Failed tells whether the endpoint is of no more use: its handshake failed, or the
// connection has ended.
func Failed(ep *tcp.Endpoint) bool {
	state := ep.EndpointState()
	return state == tcp.StateError || state == tcp.StateClose
}
