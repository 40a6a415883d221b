package engine

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/link"
)

const (
	nic tcpip.NICID = 1

	// receiveBuffer is the most bytes of an app that wait in the stack, per
	// flow, and so the window the app sees.
	receiveBuffer = 1 << 20

	// timeWait is short because the link is memory: no old segment of a flow
	// can turn up later. A SYN of the same ports would get no answer meanwhile,
	// and the app's kernel is free to use them again at once.
	timeWait = 10 * time.Millisecond

	// finWait is how long a closed endpoint waits for the app's FIN.
	finWait = 60 * time.Second

	// icmpPerSecond bounds the ICMP errors and echo replies the stack sends; a
	// port scan through a dead proxy should still see honest errors.
	icmpPerSecond = 5000
	icmpBurst     = 1000
)

// newStack makes a stack with one NIC on the endpoint, which
// answers for any address.
func newStack(endpoint *link.Endpoint, gateway4, gateway6 netip.Addr) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        false,
		Clock:              newClock(),
	})
	if err := configure(s, endpoint, gateway4, gateway6); err != nil {
		s.Destroy()
		return nil, err
	}
	return s, nil
}

func configure(s *stack.Stack, endpoint *link.Endpoint, gateway4, gateway6 netip.Addr) error {
	if err := setTCP(s); err != nil {
		return err
	}
	s.SetICMPLimit(rate.Limit(icmpPerSecond))
	s.SetICMPBurst(icmpBurst)
	if err := s.CreateNIC(nic, endpoint); err != nil {
		return fmt.Errorf("cannot make the NIC: %s", err)
	}
	// Answer for any address, and as any address.
	if err := s.SetPromiscuousMode(nic, true); err != nil {
		return fmt.Errorf("cannot set promiscuous mode: %s", err)
	}
	if err := s.SetSpoofing(nic, true); err != nil {
		return fmt.Errorf("cannot set spoofing: %s", err)
	}
	for _, address := range []netip.Addr{gateway4, gateway6} {
		protocol := tcpip.ProtocolAddress{
			Protocol:          header.IPv4ProtocolNumber,
			AddressWithPrefix: tcpip.AddrFromSlice(address.AsSlice()).WithPrefix(),
		}
		if address.Is6() {
			protocol.Protocol = header.IPv6ProtocolNumber
		}
		if err := s.AddProtocolAddress(nic, protocol, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("cannot add the gateway address %s: %s", address, err)
		}
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return nil
}

// setTCP sets what may not be as gVisor has it, because this link is no wire. It hardly ever
// loses anything, and a thread that waits for a processor is much later than its round trip:
// RACK takes that for loss, and CUBIC's slow start ends at it (HyStart). Either leaves a
// congestion window that cuts what could go in one piece into many. Flows of other machines
// are asked for otherwise, see direct.ExpectLoss.
func setTCP(s *stack.Stack) error {
	recovery := tcpip.TCPRecovery(0)
	congestion := tcpip.CongestionControlOption("reno")
	options := []tcpip.SettableTransportProtocolOption{
		new(tcpip.TCPSACKEnabled(true)),
		&recovery,
		&congestion,
		new(tcpip.TCPModerateReceiveBufferOption(true)),
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: receiveBuffer, Max: 2 * receiveBuffer},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: carry.SendBuffer, Max: carry.SendBuffer},
		new(tcpip.TCPTimeWaitTimeoutOption(timeWait)),
		new(tcpip.TCPLingerTimeoutOption(finWait)),
	}
	for _, option := range options {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("cannot set %T: %s", option, err)
		}
	}
	return nil
}
