package engine

import (
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Pump reads packets until the device is empty, budget packets were read or
// events wait, and returns how many it read. It waits up to linger for one more
// before it takes the device for empty. An errno is of the device.
func (e *Engine) Pump(budget int, linger time.Duration) (int, unix.Errno) {
	for n := 0; n < budget; {
		packet, ok, errno := e.link.Read()
		switch errno {
		case 0:
		case unix.EAGAIN:
			if n == 0 || linger <= 0 || e.events.Waiting() || !e.wait(linger) {
				return n, 0
			}
			continue
		case unix.EINTR:
			continue
		default:
			return n, errno
		}
		n++
		if ok {
			e.deliver(packet)
			if e.events.Waiting() {
				return n, 0
			}
		}
	}
	return budget, 0
}

// wait sleeps until the device is readable; false when it did not become so in
// time, or something else wants the thread.
func (e *Engine) wait(linger time.Duration) bool {
	fds := []unix.PollFd{
		{Fd: int32(e.config.TunFD), Events: unix.POLLIN},
		{Fd: int32(e.events.FD()), Events: unix.POLLIN},
	}
	timeout := unix.NsecToTimespec(linger.Nanoseconds())
	n, err := unix.Ppoll(fds, &timeout, nil)
	return err == nil && n > 0 && fds[0].Revents&unix.POLLIN != 0 && fds[1].Revents == 0
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
