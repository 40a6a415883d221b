package engine

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/events"
)

// The tests drive a whole engine. A SOCK_SEQPACKET socketpair stands for the
// TUN device: it keeps packet borders, and each end can be polled. A goroutine
// plays the reactor's thread: it is the only one that calls the engine.

const (
	// patience bounds every wait of a test. It is long because a wait that
	// ends in time costs nothing.
	patience = time.Minute

	// deviceBuffer is what each end of the stand-in device holds, in bytes: a
	// real TUN holds 500 packets.
	deviceBuffer = 32 << 20

	testMTU = 1500

	// loopTurn bounds the wait for a loop that a test may hold.
	loopTurn = 200 * time.Millisecond
)

var (
	appAddress4     = netip.MustParseAddr("198.18.0.2")
	appAddress6     = netip.MustParseAddr("fdfe:dcba:9876::2")
	gatewayAddress4 = netip.MustParseAddr("198.18.0.1")
	gatewayAddress6 = netip.MustParseAddr("fdfe:dcba:9876::1")
	farAddress4     = netip.MustParseAddr("203.0.113.7")
	farAddress6     = netip.MustParseAddr("2001:db8::7")
)

// variant is what a test is run for.
type variant struct {
	mode Mode
	vnet bool
	six  bool

	// standing: flows to where a player's go are dialled by a standing decision, see
	// standingPath.
	standing bool
}

func (v variant) String() string {
	name := pick(v.mode == Full, "full", "simple") + pick(v.vnet, "-vnet", "-plain") + pick(v.six, "-6", "-4")
	return name + pick(v.standing, "-standing", "")
}

func (v variant) app() netip.Addr     { return pick(v.six, appAddress6, appAddress4) }
func (v variant) far() netip.Addr     { return pick(v.six, farAddress6, farAddress4) }
func (v variant) gateway() netip.Addr { return pick(v.six, gatewayAddress6, gatewayAddress4) }

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// everyVariant is mode x virtio headers x family.
func everyVariant() (all []variant) {
	for _, mode := range []Mode{Full, Simple} {
		for _, vnet := range []bool{false, true} {
			for _, six := range []bool{false, true} {
				all = append(all, variant{mode: mode, vnet: vnet, six: six})
			}
		}
	}
	return all
}

// families is both families, for what does not depend on the rest.
func families() []variant { return []variant{{mode: Full}, {mode: Full, six: true}} }

// corners is each value of each dimension once.
func corners() []variant {
	return []variant{{mode: Full, vnet: true}, {mode: Simple, six: true}}
}

// everyPath is these variants with Python asked about each flow, and again with a standing
// decision: the limits are the same.
func everyPath(variants []variant) (all []variant) {
	for _, v := range variants {
		all = append(all, v)
		v.standing = true
		all = append(all, v)
	}
	return all
}

func forEach(t *testing.T, variants []variant, f func(*testing.T, variant)) {
	t.Helper()
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}

// world is an engine, the other end of its device, and the thread that pumps.
type world struct {
	t      *testing.T
	v      variant
	engine *Engine
	far    int // the test's end of the device
	near   int // the engine's

	// decide answers requests, on the pump's thread; nil leaves them.
	decide func(events.Event)
	// hear is told of every event, on the pump's thread, if it is not nil.
	hear func(events.Event)

	// lend has a loop of the engine read the device whenever it is readable,
	// as the reactor does when it is busy. Set on the pump's thread.
	lend bool
	lent bool

	path *standingPath // nil: all flows are Python's

	wake  int
	calls chan func()
	done  chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	log     []events.Event
}

func newWorld(t *testing.T, v variant, options ...func(*Config)) *world {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	for _, fd := range fds {
		// Root may go past the system's limit, others get what it allows.
		for _, option := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF, unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE} {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, deviceBuffer)
		}
	}
	config := Config{
		TunFD: fds[0], MTU: testMTU, Mode: v.mode, VirtioHeader: v.vnet,
		PendingLimit: 1024, FlowLimit: 256,
		HalfOpenLimit: 256, HalfOpen: time.Hour, HalfClosed: time.Hour, Associations: 16, DatagramFlows: 64, UDPTimeout: time.Hour,
		Gateway4: gatewayAddress4, Gateway6: gatewayAddress6, Kernel4: appAddress4, Kernel6: appAddress6,
	}
	for _, o := range options {
		o(&config)
	}
	w := &world{
		t: t, v: v, near: fds[0], far: fds[1],
		calls: make(chan func(), 16), done: make(chan struct{}),
	}
	w.changed = sync.NewCond(&w.mu)
	w.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	must(t, err)
	w.engine, err = Open(config)
	must(t, err)
	if v.standing {
		w.path = newStandingPath(w)
	}
	go w.pump()
	t.Cleanup(w.close)
	return w
}

// close ends everything; a test may call it early, to see what is left.
func (w *world) close() {
	select {
	case <-w.done:
		return
	default:
	}
	w.post(func() {
		w.engine.Close()
		runtime.Goexit()
	})
	select {
	case <-w.done:
	case <-time.After(patience):
		w.t.Errorf("Close hangs:\n%s", stacks())
		return // the fds stay with whoever hangs
	}
	for _, fd := range []int{w.near, w.far, w.wake} {
		_ = unix.Close(fd)
	}
}

// pump plays the reactor.
func (w *world) pump() {
	defer close(w.done)
	fds := []unix.PollFd{
		{Fd: int32(w.near), Events: unix.POLLIN},
		{Fd: int32(w.engine.EventFD()), Events: unix.POLLIN},
		{Fd: int32(w.wake), Events: unix.POLLIN},
	}
	for {
		switch _, err := unix.Poll(fds, -1); err {
		case nil:
		case unix.EINTR:
			continue // with the results of the last time
		default:
			panic(err)
		}
		if fds[2].Revents != 0 {
			var sink [8]byte
			_, _ = unix.Read(w.wake, sink[:])
		}
		for range len(w.calls) {
			(<-w.calls)()
		}
		switch {
		case fds[0].Revents&unix.POLLIN == 0:
		case w.lend:
			if err := w.engine.Lend(); err != nil {
				panic(err)
			}
			w.lent = true
		default:
			if _, errno := w.engine.Pump(pick(w.path != nil, 1, 64)); errno != 0 {
				panic(errno)
			}
		}
		w.drain()
		fds[0].Fd = pick(w.lent, -1, int32(w.near))
	}
}

func (w *world) drain() {
	var taken []events.Event
	if w.path != nil {
		taken = w.path.look()
	}
	for w.engine.Drain(32, func(e *events.Event) { taken = append(taken, *e) }) > 0 {
	}
	if w.path != nil { // who makes way for one that is told of
		taken = append(taken, w.path.look()...)
	}
	if len(taken) == 0 {
		return
	}
	w.mu.Lock()
	w.log = append(w.log, taken...)
	w.changed.Broadcast()
	w.mu.Unlock()
	for _, e := range taken {
		if w.hear != nil {
			w.hear(e)
		}
		switch {
		case (e.Kind == events.TCPRequest || e.Kind == events.UDPRequest) && w.decide != nil:
			w.decide(e)
		case e.Kind == events.DeviceReturned:
			w.lent = false
		}
	}
}

// post has the pump's thread call f.
func (w *world) post(f func()) {
	w.calls <- f
	_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// do has the pump's thread call f and waits for it.
func (w *world) do(f func(e *Engine)) {
	w.t.Helper()
	finished := make(chan struct{})
	w.post(func() {
		defer close(finished)
		f(w.engine)
	})
	select {
	case <-finished:
	case <-time.After(patience):
		w.t.Fatalf("the pump's thread hangs:\n%s", stacks())
	}
}

// events returns the events of a kind so far.
func (w *world) events(kind uint32) (found []events.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.log {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// event waits for the n-th event of a kind, counted from 1.
func (w *world) event(kind uint32, n int) events.Event {
	w.t.Helper()
	timer := time.AfterFunc(patience, w.changed.Broadcast)
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	if w.path != nil { // nothing signals what is only seen
		eventually(w.t, fmt.Sprintf("event %d of kind %d", n, kind), func() bool {
			w.do(func(*Engine) {})
			return len(w.events(kind)) >= n
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		seen := 0
		for _, e := range w.log {
			if e.Kind == kind {
				if seen++; seen == n {
					return e
				}
			}
		}
		if !time.Now().Before(deadline) {
			w.t.Fatalf("event %d of kind %d does not come; so far: %+v\n%s", n, kind, w.log, stacks())
		}
		w.changed.Wait()
	}
}

// closed waits for the Closed event of a flow.
func (w *world) closed(flow uint64) (found events.Event) {
	w.t.Helper()
	eventually(w.t, "the flow's Closed event", func() bool {
		w.do(func(*Engine) {})
		for _, e := range w.events(events.Closed) {
			if e.Flow == flow {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// stats returns the counters once the loops have done what they are at: what a loop
// writes can be read before it has counted it.
func (w *world) stats() (s Stats) {
	w.t.Helper()
	for _, loop := range w.engine.loops {
		turn := make(chan struct{})
		loop.Call(func() { close(turn) })
		select {
		case <-turn:
		case <-time.After(loopTurn): // a test holds it
		}
	}
	w.do(func(e *Engine) { s = e.Stats() })
	return s
}

// eventually waits for a condition that nothing signals.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for pause := 100 * time.Microsecond; !condition(); pause = min(2*pause, 10*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for %s\n%s", patience, what, stacks())
		}
		time.Sleep(pause)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stacks is every goroutine that is in this module's code or gVisor's.
func stacks() string {
	buffer := make([]byte, 1<<20)
	all := strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n")
	kept := all[:0]
	for _, s := range all {
		if strings.Contains(s, "nanotun/") || strings.Contains(s, "gvisor") {
			kept = append(kept, s)
		}
	}
	return strings.Join(kept, "\n\n")
}

// openFDs counts the process's file descriptors.
func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func describe(e events.Event) string {
	size := pick(e.Family == 6, 16, 4)
	source, _ := netip.AddrFromSlice(e.Source[:size])
	destination, _ := netip.AddrFromSlice(e.Destination[:size])
	return fmt.Sprintf("%d/%d %s > %s", e.Family, e.Protocol,
		netip.AddrPortFrom(source, e.SourcePort), netip.AddrPortFrom(destination, e.DestPort))
}
