package carry

import (
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/link"
)

// App is the app's side of a flow: direct.App, an endpoint of gVisor's, or smalltcp.Conn.
// What is said nowhere else is as tcp.Endpoint does it. It notifies the flow's Queue.
type App interface {
	// Handle handles a packet of the app, in the thread that read it; Keep follows before
	// the packet is gone, and after what was to be read at once.
	Handle(p link.Packet)
	Keep()

	Read(w io.Writer, options tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error)
	Write(p tcpip.Payloader, options tcpip.WriteOptions) (int64, tcpip.Error)
	Readiness(mask waiter.EventMask) waiter.EventMask
	Shutdown(flags tcpip.ShutdownFlags) tcpip.Error
	Abort()
	Close()

	EndpointState() tcp.EndpointState
	LastError() tcpip.Error

	// Unacknowledged is how many bytes the app has not acknowledged, a FIN counting as
	// one; 0 if nothing can be sent any more.
	Unacknowledged() int
}
