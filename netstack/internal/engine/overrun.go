package engine

import (
	"time"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// overrunRate is how many SYNs of strangers a second are looked at while their part of the
// queue is full. It is ten times what is told of, so that no fewer get through; the rest,
// each of which would only take another one's place, are forgotten before they cost more.
const overrunRate = 5000

func newOverrunLimit() *rate.Limiter { return rate.NewLimiter(overrunRate, overrunRate/100) }

// forgets tells whether a packet is a SYN of a stranger that is one too many. It is called
// for every TCP packet of no established flow, before the stack sees it.
func (e *Engine) forgets(t *tuple, packet []byte) bool {
	if !e.pending.overrun.Load() || e.parties.isHere(t) || !isSYN(t, packet) {
		return false
	}
	now := time.Now()
	if e.parties.of(t, nil, now).class != strangers || e.overrun.AllowN(now, 1) {
		return false
	}
	e.pending.yielded.Add(1)
	return true
}

// isSYN tells whether a packet with a TCP header, which glance has found, begins a
// connection. What has options of IPv6 is left to the stack.
func isSYN(t *tuple, packet []byte) bool {
	at := header.IPv6MinimumSize
	if !t.six {
		at = int(header.IPv4(packet).HeaderLength())
	} else if packet[6] != uint8(header.TCPProtocolNumber) {
		return false
	}
	return header.TCP(packet[at:]).Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) == header.TCPFlagSyn
}
