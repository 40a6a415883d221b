package direct

import "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

// HasHandshake tells whether an endpoint keeps its handshake.
func HasHandshake(ep *tcp.Endpoint) bool { return *handshakeOf(ep) != nil }
