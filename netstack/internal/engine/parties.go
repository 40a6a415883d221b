package engine

import (
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/sockdiag"
)

const (
	// knownFor is how long a machine stays known after it has completed a
	// connection.
	knownFor = 10 * time.Minute

	// knownLimit is how many machines are known at a time: 40 bytes each.
	knownLimit = 4096

	// askFrom is how many flows of this machine have to wait before the kernel is asked
	// whose a new one is, in 5 us: fewer keep nobody out.
	askFrom = 128
)

// parties tells whose a flow is. A flow is of this machine if it has the kernel's own
// address on the device. No other machine's packets come with that from outside: Linux
// drops those of IPv4, and the firewall of autoDefaultRoute those of IPv6. What is masqueraded into
// the device has it, too, and no socket here: it is one party.
type parties struct {
	kernel  gateways
	askFrom int
	userOf  func(t *tuple) user // nil: nobody can be asked

	mu    sync.Mutex
	known map[[16]byte]time.Time // when a machine completed a connection last
}

func newParties(kernel4, kernel6 netip.Addr) *parties {
	return &parties{kernel: newGateways(kernel4, kernel6), askFrom: askFrom, known: make(map[[16]byte]time.Time)}
}

// askKernel has the kernel asked for the user of a flow, if this machine's sockets are in
// this process's network namespace: then device is the device's index there.
func (p *parties) askKernel(device uint32) (end func()) {
	if device == 0 {
		return func() {}
	}
	asker, err := sockdiag.New()
	if err != nil {
		return func() {} // a kernel without it: all programs are one party
	}
	p.userOf = func(t *tuple) user {
		uid, cgroup, found := asker.Ask(t.sourceEnd(), t.destinationEnd(), device)
		return user{uid: uid, cgroup: cgroup, known: found}
	}
	return asker.Close
}

// of tells whose a flow is. ours tells how many of this machine's flows wait. It is called
// by the thread that has the device.
func (p *parties) of(t *tuple, ours func() int, now time.Time) party {
	if p.isHere(t) {
		if p.userOf == nil || ours() < p.askFrom {
			return party{class: here}
		}
		return party{class: here, user: p.userOf(t)}
	}
	from := party{class: strangers, address: machineOf(t)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.known[from.address]; ok && now.Sub(last) < knownFor {
		from.class = known
	}
	return from
}

func (p *parties) isHere(t *tuple) bool {
	if t.six {
		return t.source == p.kernel.six
	}
	return t.source == p.kernel.four
}

// completed notes that the source of a flow has completed a connection, so that it is
// no made-up address.
func (p *parties) completed(t *tuple, now time.Time) {
	if p.isHere(t) {
		return
	}
	address := machineOf(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[address]; !ok && len(p.known) >= knownLimit {
		for any := range p.known { // in no order
			delete(p.known, any)
			break
		}
	}
	p.known[address] = now
}

// machineOf is the address of a machine elsewhere, or its /64: it can use all of that.
func machineOf(t *tuple) (address [16]byte) {
	if !t.six {
		return t.source
	}
	copy(address[:header.IPv6AddressSize/2], t.source[:])
	address[15] = 6 // an IPv4 address has 0 here
	return address
}
