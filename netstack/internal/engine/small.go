package engine

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/smalltcp"
)

// keepAliveLooks is how many times idle apps are looked at in the time after which one is
// asked whether it is still there.
const keepAliveLooks = 4

// small is what the engine has of Simple's TCP.
type small struct {
	*smalltcp.Host
	timer *time.Timer // for keep-alives, or nil

	// beginning: the packet that the stack is given is of a handshake that has not begun.
	// It belongs to the thread that has the device.
	beginning bool
}

func (e *Engine) openSmall() {
	if e.config.Mode != Simple {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.small = &small{Host: smalltcp.NewHost(e.link)}
	if wait := e.config.KeepAlive / keepAliveLooks; wait > 0 {
		e.small.timer = time.AfterFunc(wait, e.keepAlive)
	}
}

// keepAlive is called by the timer.
func (e *Engine) keepAlive() {
	e.lookAtIdle()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.quiesced {
		e.small.timer.Reset(e.config.KeepAlive / keepAliveLooks)
	}
}

// lookAtIdle asks the apps that have said nothing for a while.
func (e *Engine) lookAtIdle() {
	flows, _ := e.left()
	for _, f := range flows {
		if conn, ok := f.Endpoint.(*smalltcp.Conn); ok {
			conn.KeepAlive()
		}
	}
}

// closeSmall ends the keep-alives, for Close.
func (e *Engine) closeSmall() {
	if e.small != nil && e.small.timer != nil {
		e.small.timer.Stop()
	}
}

// abortSmall ends the handshakes of Simple's that are under way, for Close.
func (e *Engine) abortSmall() {
	if e.small == nil {
		return
	}
	var found []carry.App
	e.mu.Lock()
	for _, f := range e.opening {
		if f.Endpoint != nil {
			found = append(found, f.Endpoint)
		}
	}
	e.mu.Unlock()
	for _, app := range found {
		app.Abort()
	}
}

// answer sends the SYN-ACK to a SYN. Between this machine and another one, whose flows it
// forwards, packets may be lost and overtake each other: those get gVisor's whole TCP.
func (e *Engine) answer(id stack.TransportEndpointID, packet *stack.PacketBuffer, f *joinedFlow) (carry.App, tcpip.Error) {
	if e.small != nil && f.here {
		return e.small.Open(packet, f.Loop(), &f.Queue), nil
	}
	endpoint, err := e.listener.Open(id, packet, &f.Queue)
	if err != nil {
		return nil, err
	}
	if !f.here {
		direct.ExpectLoss(endpoint)
	}
	return &direct.App{Endpoint: endpoint, Link: e.link, Queue: &f.Queue}, nil
}

// assembled gives a flow of Simple's a segment that came in fragments, or behind options of
// IPv6, and which the stack has put together. False: there is no such flow.
func (e *Engine) assembled(t *tuple, packet *stack.PacketBuffer) bool {
	if e.small == nil || e.small.beginning {
		return false
	}
	f, opening, closing := e.find(t)
	if f == nil && opening == nil && closing == nil {
		return false
	}
	segment := append([]byte(nil), packet.TransportHeader().Slice()...)
	segment = append(segment, packet.Data().AsRange().ToSlice()...)
	by := func(app carry.App) {
		if conn, ok := app.(*smalltcp.Conn); ok {
			conn.Segment(segment)
		}
	}
	switch {
	case f != nil:
		f.BeginPump()
		by(f.Endpoint)
		f.EndPump()
	case opening != nil:
		opening.handle(by)
	default:
		e.last(closing, by)
	}
	return true
}

// unreachable has a flow of Simple's handle an ICMP error that the app's host has sent about
// a segment. False: it is none.
func (e *Engine) unreachable(packet []byte) (handled bool) {
	if e.small == nil {
		return false
	}
	about, ok := aboutWhat(packet)
	if !ok {
		return false
	}
	t, kind := glance(about)
	if kind != kindTCP {
		return false
	}
	at := header.IPv6MinimumSize
	if !t.six {
		at = int(header.IPv4(about).HeaderLength())
	}
	seq := header.TCP(about[at:]).SequenceNumber()
	t.source, t.destination = t.destination, t.source
	t.sourcePort, t.destinationPort = t.destinationPort, t.sourcePort
	_, opening, _ := e.find(&t)
	if opening == nil {
		return false
	}
	opening.handle(func(app carry.App) {
		if conn, ok := app.(*smalltcp.Conn); ok {
			conn.Unreachable(seq)
			handled = true
		}
	})
	return handled
}

// aboutWhat is the beginning of the packet that an ICMP error "destination unreachable" is
// about.
func aboutWhat(packet []byte) (about []byte, ok bool) {
	var icmp []byte
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		ip := header.IPv4(packet)
		if !ip.IsValid(len(packet)) || ip.Protocol() != uint8(header.ICMPv4ProtocolNumber) || ip.More() || ip.FragmentOffset() != 0 {
			return nil, false
		}
		icmp = packet[ip.HeaderLength():ip.TotalLength()]
		ok = len(icmp) > 0 && icmp[0] == uint8(header.ICMPv4DstUnreachable)
	case header.IPv6Version:
		if len(packet) < header.IPv6MinimumSize || packet[6] != uint8(header.ICMPv6ProtocolNumber) {
			return nil, false
		}
		icmp = packet[header.IPv6MinimumSize:]
		ok = len(icmp) > 0 && icmp[0] == uint8(header.ICMPv6DstUnreachable)
	}
	if !ok || len(icmp) < header.ICMPv4MinimumSize {
		return nil, false
	}
	return icmp[header.ICMPv4MinimumSize:], true
}

// established tells whether an app has completed the handshake, and nothing has ended the
// connection since.
func established(app carry.App) bool {
	switch app.EndpointState() {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2,
		tcp.StateCloseWait, tcp.StateLastAck, tcp.StateClosing:
		return true
	}
	return false
}

// failed tells whether the connection has ended, or its handshake failed.
func failed(app carry.App) bool {
	state := app.EndpointState()
	return state == tcp.StateError || state == tcp.StateClose
}
