package engine

import (
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/events"
)

const (
	// lentQuiet is how long a lent device may be silent before it goes back to
	// the reactor: longer than the gaps in a conversation, and short enough
	// that an idle machine has no timer of ours running.
	lentQuiet = 20 * time.Millisecond

	// lentApart is how far packets are apart that come one by one.
	lentApart = 30 * time.Microsecond

	// heldFor is how long the acknowledgement of a question may wait for the answer. A
	// kernel waits for up to 40 ms.
	heldFor = time.Millisecond

	// heldSize is the size of the largest packet whose acknowledgement may wait: in a
	// stream of full ones, every second one has to be acknowledged (RFC 1122, section
	// 4.2.3.2).
	heldSize = 1400

	// lentBudget is how many packets a loop takes before its sockets get
	// their turn.
	lentBudget = 64
)

// Pump reads packets until the device is empty, budget packets were read or
// events wait (but flows to tell of are no reason: they can wait better here than on the
// device), and returns how many it read: none while the device is lent. An
// errno is the device's.
func (e *Engine) Pump(budget int) (int, unix.Errno) {
	if e.lent.Load() {
		return 0, 0
	}
	return e.pump(budget, true)
}

// Lend has a loop read the device until it has been silent for lentQuiet or
// fails; then a DeviceReturned event says so.
func (e *Engine) Lend() error {
	if !e.lent.CompareAndSwap(false, true) {
		return unix.EBUSY
	}
	err := e.loops[0].Host(&carry.Guest{
		FD:    e.config.TunFD,
		Quiet: lentQuiet,
		Ready: func() (something, leave bool) {
			n, errno := e.pump(e.lentTurn(), false)
			e.lentPackets = n
			return n > 0, errno != 0
		},
		Late: e.flushHeld,
		Left: func() {
			e.link.FlushHeld(0, time.Now())
			if e.small != nil {
				e.small.FlushHeld(0, time.Now())
			}
			e.lent.Store(false)
			e.events.Post(events.Event{Kind: events.DeviceReturned})
		},
	})
	if err != nil {
		e.lent.Store(false)
	}
	return err
}

// lentTurn is how many packets to read. Where they come one by one, the read that would
// find nothing more is left out; whatever is there after all is read in the loop's next turn,
// which is then made for it.
func (e *Engine) lentTurn() int {
	now := time.Now()
	apart := now.Sub(e.lentAt)
	e.lentAt = now
	if e.lentPackets == 1 && apart > lentApart {
		return 1
	}
	return lentBudget
}

// flushHeld sends the acknowledgement that no answer took with it.
func (e *Engine) flushHeld() time.Duration {
	held := e.link.Holds()
	small := e.small != nil && e.small.Holds()
	if !held && !small {
		return 0
	}
	now := time.Now()
	if held && e.link.FlushHeld(heldFor, now) || small && e.small.FlushHeld(heldFor, now) {
		if e.heldOf != nil {
			e.heldOf.NotQuick()
			e.heldOf = nil
		}
		return 0
	}
	return heldFor
}

// pump is Pump for the thread that has the device; attended means that the caller
// looks for events afterwards.
func (e *Engine) pump(budget int, attended bool) (int, unix.Errno) {
	e.datagrams.Look()
	defer e.flushDatagrams()
	if e.small != nil {
		defer e.small.Flush()
	}
	for n := 0; n < budget; {
		packet, ok, errno := e.link.Read()
		switch errno {
		case 0:
		case unix.EAGAIN:
			return n, 0
		case unix.EINTR:
			continue
		default:
			return n, errno
		}
		n++
		if ok {
			e.deliver(packet)
			if attended && e.events.Waiting() {
				return n, 0
			}
		}
	}
	return budget, 0
}

// setOptions sets what differs from the stack's defaults on an endpoint.
func (e *Engine) setOptions(endpoint *tcp.Endpoint) {
	if e.config.KeepAlive <= 0 {
		return
	}
	idle := tcpip.KeepaliveIdleOption(e.config.KeepAlive)
	interval := tcpip.KeepaliveIntervalOption(e.config.KeepAlive / 4)
	_ = endpoint.SetSockOpt(&idle)
	_ = endpoint.SetSockOpt(&interval)
	endpoint.SocketOptions().SetKeepAlive(true)
}

// keepAliveProbes is how many probes a dead upstream may leave unanswered.
const keepAliveProbes = 4

// setKeepAlive finds upstreams that vanished without a word. A socket that is
// not TCP refuses the options and does not need them.
func setKeepAlive(fd int, idle time.Duration) {
	seconds := int(idle / time.Second)
	if seconds <= 0 {
		return
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) != nil {
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, max(1, seconds/4))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes)
}
