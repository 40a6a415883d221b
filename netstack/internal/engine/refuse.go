package engine

import (
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"nanotun/netstack/internal/datagram"
)

// Refuse tells the app that it cannot have a waiting flow.
func (e *Engine) Refuse(flow uint64, how Refusal) error {
	w := e.pending.take(flow)
	if w == nil {
		if how == RefuseReset {
			how = RefusePortUnreachable // UDP's counterpart of a reset
		}
		if err := e.datagrams.Refuse(flow, datagram.Refusal(how)); err != nil {
			return err
		}
		e.refused.Add(1)
		return nil
	}
	defer w.release()
	e.wake()
	e.refused.Add(1)
	if w.held == nil { // otherwise a reset is all that is left
		e.reject(w.packet, w.tuple.six, how)
	}
	return nil
}

// reject answers a packet with what the app is to see: a TCP reset for a reason that
// ICMP does not know.
func (e *Engine) reject(packet *stack.PacketBuffer, six bool, how Refusal) {
	if six {
		reject := stack.RejectIPv6WithTCPReset
		switch how {
		case RefuseHostUnreachable:
			reject = stack.RejectIPv6WithICMPAddrUnreachable
		case RefuseNetUnreachable:
			reject = stack.RejectIPv6WithICMPNoRoute
		case RefuseProhibited:
			reject = stack.RejectIPv6WithICMPAdminProhibited
		case RefusePortUnreachable:
			reject = stack.RejectIPv6WithICMPPortUnreachable
		}
		handler := e.stack.NetworkProtocolInstance(ipv6.ProtocolNumber).(stack.RejectIPv6WithHandler)
		handler.SendRejectionError(packet, reject, false)
		return
	}
	reject := stack.RejectIPv4WithTCPReset
	switch how {
	case RefuseHostUnreachable:
		reject = stack.RejectIPv4WithICMPHostUnreachable
	case RefuseNetUnreachable:
		reject = stack.RejectIPv4WithICMPNetUnreachable
	case RefuseProhibited:
		reject = stack.RejectIPv4WithICMPAdminProhibited
	case RefusePortUnreachable:
		reject = stack.RejectIPv4WithICMPPortUnreachable
	}
	handler := e.stack.NetworkProtocolInstance(ipv4.ProtocolNumber).(stack.RejectIPv4WithHandler)
	handler.SendRejectionError(packet, reject, true)
}

// Drop forgets a waiting flow.
func (e *Engine) Drop(flow uint64) error {
	w := e.pending.take(flow)
	if w == nil {
		return e.datagrams.Drop(flow)
	}
	w.release()
	e.wake()
	return nil
}
