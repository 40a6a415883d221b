package engine

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/link"
)

const (
	// probePort is any port: the probe's stack is alone on the device.
	probePort = 9

	// probeBytes go each way: enough for several large segments.
	probeBytes = 256 << 10

	// probeTries: a machine that was busy for a moment must not lose its speed
	// until the next start.
	probeTries = 2

	// drainPackets is far more than the end of one connection causes; a device
	// that is never empty must not delay the start.
	drainPackets = 64

	// segmentsBelow is the MTU from which there may be nothing to segment.
	segmentsBelow = 16 << 10
)

// ProbeConfig is what ns_probe is called with.
type ProbeConfig struct {
	TunFD        int
	VirtioHeader bool
	MTU          uint32
	Device       string
	Gateway      netip.Addr
	Timeout      time.Duration
}

// Probe tells whether segmentation offload works on the device, both ways. Some
// kernels take the option and then lose or damage large segments (Linux 6.6.44
// and its relatives), which only a real stream shows: one goes from the
// kernel's TCP through the device to a stack on it, and comes back.
func Probe(config ProbeConfig) bool {
	config.Timeout /= probeTries
	for range probeTries {
		if probe(config) {
			return true
		}
	}
	return false
}

func probe(config ProbeConfig) bool {
	endpoint := link.New(config.TunFD, config.MTU, config.VirtioHeader)
	s, err := newStack(endpoint, config.Gateway, netip.IPv6LinkLocalAllRouters())
	if err != nil {
		return false
	}
	defer s.Destroy()
	defer endpoint.Close()
	forward := tcp.NewForwarder(s, receiveBuffer, 1, func(request *tcp.ForwarderRequest) {
		var queue waiter.Queue
		ep, err := request.CreateEndpoint(&queue)
		request.Complete(err != nil)
		if err != nil {
			return
		}
		conn := gonet.NewTCPConn(&queue, ep)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(config.Timeout))
		// All of it first, so that it goes back in large segments.
		pattern := make([]byte, probeBytes)
		if _, err := io.ReadFull(conn, pattern); err == nil {
			_, _ = conn.Write(pattern)
			_, _ = conn.Read(pattern[:1])
		}
	})
	gateway := tcpip.AddrFromSlice(config.Gateway.AsSlice())
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
		if id.LocalAddress != gateway || id.LocalPort != probePort {
			return true // an app is early; its next SYN will find the engine
		}
		return forward.HandlePacket(id, packet)
	})

	ctx, cancel := context.WithTimeout(context.Background(), config.Timeout)
	defer cancel()
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		pumpUntil(ctx, config.TunFD, endpoint)
	}()
	intact := echo(ctx, config)
	cancel()
	<-pumped
	drain(endpoint)
	if config.VirtioHeader && config.MTU < segmentsBelow {
		return intact && endpoint.SegmentedIn.Load() > 0 && endpoint.SegmentedOut.Load() > 0
	}
	return intact
}

// pumpUntil hands packets to the stack until the context is done.
func pumpUntil(ctx context.Context, fd int, endpoint *link.Endpoint) {
	for ctx.Err() == nil {
		packet, ok, errno := endpoint.Read()
		switch {
		case errno == unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, 5)
		case errno != 0 && errno != unix.EINTR:
			return
		case errno == 0 && ok:
			endpoint.Deliver(packet)
		}
	}
}

// drain hands over what is left on the device, which the engine would otherwise
// find there and count as dropped.
func drain(endpoint *link.Endpoint) {
	for range drainPackets {
		packet, ok, errno := endpoint.Read()
		if errno != 0 && errno != unix.EINTR {
			return
		}
		if errno == 0 && ok {
			endpoint.Deliver(packet)
		}
	}
}

// echo sends a pattern through the device and tells whether it came back whole.
func echo(ctx context.Context, config ProbeConfig) bool {
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var bound error
		err := c.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), config.Device) })
		if err != nil {
			return err
		}
		return bound
	}}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(config.Gateway.String(), strconv.Itoa(probePort)))
	if err != nil {
		return false
	}
	defer conn.Close()
	// Closed with one RST: there is nobody to acknowledge a FIN once the probe is
	// over, so the kernel would repeat it for minutes.
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	pattern := make([]byte, probeBytes)
	for i := range pattern {
		pattern[i] = byte(i ^ i>>8 ^ i>>16)
	}
	if _, err := conn.Write(pattern); err != nil {
		return false
	}
	back := make([]byte, len(pattern))
	if _, err := io.ReadFull(conn, back); err != nil {
		return false
	}
	return bytes.Equal(pattern, back)
}
