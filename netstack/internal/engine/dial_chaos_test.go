package engine

import (
	"context"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"nanotun/netstack/internal/events"
)

// chaos plays Python, which does anything that it may at any time.
type chaos struct {
	*app
	t       *testing.T
	proxy   *proxy
	course  uint32
	stands  []uint64 // all decisions that there were
	ended   map[uint64]int
	decided uint64
	calm    bool // nothing more begins
}

func (c *chaos) hear(e *Engine, event events.Event) {
	switch event.Kind {
	case events.TCPRequest:
		c.act(e, event, rand.IntN(12))
	case events.DialEnded:
		end, err := e.Dialled(event.Flow)
		if err != nil {
			return // it is gone
		}
		if end.FD >= 0 && rand.IntN(2) == 0 {
			_ = e.Join(event.Flow, end.FD, end.Received, 0)
			return
		}
		if end.FD >= 0 {
			_ = unix.Close(end.FD)
		}
		c.act(e, event, rand.IntN(12))
	case events.DialSilent:
		switch rand.IntN(4) {
		case 0:
			if e.Undial(event.Flow) == nil {
				c.act(e, event, rand.IntN(12))
			}
		case 1:
			_ = e.Refuse(event.Flow, RefuseReset)
		}
	case events.StandingEnded:
		c.count(e)
		c.ended[event.Flow]++
	}
	if c.calm {
		return
	}
	switch rand.IntN(60) {
	case 0:
		e.Withdraw()
	case 1, 2, 3, 4, 5:
		c.stands = append(c.stands, c.world.stand(e, true, c.proxy.course(100*time.Millisecond, 20*time.Millisecond), []byte(dialRequest), 0))
	case 6:
		c.count(e)
	}
}

// act decides about a flow that waits.
func (c *chaos) act(e *Engine, event events.Event, how int) {
	switch how {
	case 0:
		_ = e.Drop(event.Flow)
	case 1:
		_ = e.Refuse(event.Flow, RefuseReset)
	case 2:
		near, far, err := socketPair()
		if err == nil {
			_ = unix.Close(far)
			_ = e.Join(event.Flow, near, nil, 0)
		}
	default:
		if e.Dial(event.Flow, c.course, -1, 0, []byte(dialRequest), 0) != nil {
			_ = e.Drop(event.Flow)
		}
	}
}

func socketPair() (near, far int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fds[0], fds[1], err
}

func (c *chaos) count(e *Engine) {
	var some [3]Stood
	for n := len(some); n == len(some); {
		n = e.Stood(some[:])
		for _, one := range some[:n] {
			c.decided += one.Decided
			if c.ended[one.Number] > 0 {
				c.t.Errorf("%+v after its end", one)
			}
		}
	}
}

// Whatever Python, the proxy and the apps do at any time, nothing is left of any flow, and
// each decision ends once.
func TestDialsInChaos(t *testing.T) {
	const flows, together = 1000, 60
	goroutines, fds := runtime.NumGoroutine(), openFDs(t)
	t.Run("world", func(t *testing.T) {
		w := newWorld(t, families()[0], func(c *Config) {
			c.testPace = hasty()
			c.PendingLimit, c.FlowLimit, c.HalfOpenLimit, c.HalfOpen = 48, 6, 4, 30*time.Millisecond
		})
		c := &chaos{app: newApp(w), t: t, proxy: newProxy(t), ended: make(map[uint64]int)}
		c.course = c.world.course(c.proxy.course(100*time.Millisecond, 20*time.Millisecond))
		go func() {
			for {
				conn, err := c.proxy.listener.AcceptTCP()
				if err != nil {
					return
				}
				go func() {
					if way := rand.IntN(8); way < 6 {
						serve(conn, way%5)
						return
					}
					_, _ = io.Copy(io.Discard, conn) // silent
					_ = conn.Close()
				}()
			}
		}()
		w.do(func(e *Engine) {
			w.lend = true
			w.hear = func(event events.Event) { c.hear(e, event) }
		})
		turns := make(chan struct{}, together)
		for n := range flows {
			turns <- struct{}{}
			go func() {
				defer func() { <-turns }()
				c.anApp(uint16(20000 + n%1000))
			}()
		}
		for range together {
			turns <- struct{}{}
		}
		w.do(func(e *Engine) {
			c.calm = true
			e.Withdraw()
		})
		eventually(t, "nothing to be left", func() (nothing bool) {
			w.do(func(e *Engine) {
				for flow := range e.pending.byFlow {
					_ = e.Drop(flow)
				}
				s := e.Stats()
				nothing = s.Pending == 0 && s.HalfOpen == 0 && s.Flows == 0 && len(c.ended) == len(c.stands)
			})
			return nothing
		})
		for number, times := range c.ended {
			if times != 1 {
				t.Errorf("decision %d has ended %d times", number, times)
			}
		}
		if s := w.stats(); c.decided == 0 || s.FlowsTotal == 0 || s.DropSourceLimit == 0 || s.DropFlowLimit == 0 {
			t.Errorf("%d flows without a question, %+v", c.decided, s)
		}
		c.vanish()
		w.close()
		_ = c.proxy.listener.Close()
	})
	settled(t, goroutines, fds)
}

// anApp connects from a port that others have just used, and gives up after a while.
func (c *chaos) anApp(port uint16) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20+rand.IntN(300))*time.Millisecond)
	defer cancel()
	far := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(c.v.far().AsSlice()), Port: 443}
	near := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(c.v.app().AsSlice()), Port: port}
	conn, err := gonet.DialTCPWithBind(ctx, c.stack, near, far, ipv4.ProtocolNumber)
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		return
	}
	if rand.IntN(2) == 0 {
		s := segment{source: addrPort(near), destination: addrPort(far), seq: 1, flags: header.TCPFlagRst}
		_ = unix.Send(c.far, s.packet(), unix.MSG_NOSIGNAL)
	}
}

func addrPort(a tcpip.FullAddress) netip.AddrPort {
	address, _ := netip.AddrFromSlice(a.Addr.AsSlice())
	return netip.AddrPortFrom(address, a.Port)
}
