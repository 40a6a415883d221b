package direct

import (
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/link"
)

// App is an endpoint as a flow's app's side, see carry.App.
type App struct {
	*tcp.Endpoint

	Link  *link.Endpoint
	Queue *waiter.Queue
}

// Handle has the caller's thread do all the work for a packet.
func (a *App) Handle(p link.Packet) {
	Begin(a.Endpoint)
	a.Link.Deliver(p)
	Finish(a.Endpoint, a.Queue)
}

// Keep does nothing: the stack has the packet.
func (a *App) Keep() {}

// Unacknowledged is that of the endpoint.
func (a *App) Unacknowledged() int { return Unacknowledged(a.Endpoint) }
