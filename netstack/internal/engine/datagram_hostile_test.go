package engine

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
)

// datagramSeeds are UDP packets of every kind that the engine knows.
func datagramSeeds(v variant) (seeds [][]byte) {
	app, far := v.ends()
	gateway := netip.AddrPortFrom(v.gateway(), 53)
	odd := ipOptions{options: []byte{1, 1, 1, 1}}
	if v.six {
		odd = ipOptions{next: 60, options: []byte{17, 0, 1, 4, 0, 0, 0, 0}}
	}
	for _, to := range []netip.AddrPort{far, gateway, netip.AddrPortFrom(far.Addr(), 53)} {
		seeds = append(seeds,
			udpPacket(app, to, query(7, "example"), false, ipOptions{}), udpPacket(app, to, nil, false, ipOptions{}),
			udpPacket(app, to, pattern(0, 1400), false, ipOptions{}), udpPacket(app, to, query(8, "example"), false, odd),
			udpPacket(app, to, nil, false, odd))
		for _, size := range []int{8, 24, 1000} {
			seeds = append(seeds, fragments(app, to, pattern(0, 1500), size, 7, false)[:2]...)
		}
		seeds = append(seeds, fragments(app, to, nil, 1000, 8, false)...)
	}
	return seeds
}

// verdicts decides about requests at random, and once in a while makes a new leg
// for it, to a relay that echoes.
type verdicts struct {
	random *rand.Rand
	relay  *net.UDPAddr
	legs   []uint64
}

func newVerdicts(t testing.TB, seed uint64) *verdicts {
	relay, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 70000)
		for {
			n, from, err := relay.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = relay.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	t.Cleanup(func() { _ = relay.Close(); <-done })
	return &verdicts{random: rand.New(rand.NewPCG(seed, 1)), relay: relay.LocalAddr().(*net.UDPAddr)}
}

// leg makes an association, 0 if that fails.
func (v *verdicts) leg(e *Engine, shared bool) uint64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	_ = unix.Connect(fd, &unix.SockaddrInet4{Port: v.relay.Port, Addr: [4]byte(v.relay.IP.To4())})
	name := ""
	if !shared && v.random.IntN(2) == 0 {
		name = "www.example.com"
	}
	id, _ := e.Datagrams().Associate(fd, datagram.Socks5, shared, name)
	return id
}

// of decides, in the thread that calls the engine.
func (v *verdicts) of(e *Engine, event events.Event) {
	if event.Kind != events.UDPRequest {
		return
	}
	switch how := v.random.IntN(8); how {
	case 0:
		v.legs = append(v.legs, v.leg(e, v.random.IntN(2) == 0))
		if len(v.legs) > 8 {
			e.Datagrams().Dissociate(v.legs[0])
			v.legs = v.legs[1:]
		}
		fallthrough
	case 1, 2, 3:
		for _, id := range v.legs {
			if e.Datagrams().Attach(event.Flow, id, nil, 0) == nil {
				return
			}
		}
		_ = e.Drop(event.Flow)
	case 4:
		_ = e.ServeDatagrams(event.Flow)
	case 5, 6:
		_ = e.Refuse(event.Flow, Refusal(v.random.IntN(7)))
	default:
		_ = e.Drop(event.Flow)
	}
}

// Damaged UDP packets, with damaged virtio headers, to flows in every state bring
// out nothing with a wrong checksum, leave nothing behind, and an ordinary flow
// works afterwards.
func TestMutatedDatagrams(t *testing.T) {
	packets := 25_000
	if testing.Short() {
		packets = 2500
	}
	forEach(t, []variant{{mode: Full}, {mode: Full, vnet: true, six: true}, {mode: Simple, vnet: true}, {mode: Simple, six: true}}, func(t *testing.T, v variant) {
		fds := openFDs(t)
		w := newWorld(t, v)
		p := newPlayer(w)
		decide := newVerdicts(t, 3)
		w.listen(17, 53)
		w.do(func(e *Engine) {
			w.decide = func(event events.Event) { decide.of(e, event) }
		})
		seeds := datagramSeeds(v)
		random := rand.New(rand.NewPCG(4, uint64(v.mode)))
		for i := range packets {
			packet := mutate(random, append([]byte(nil), seeds[random.IntN(len(seeds))]...))
			if v.vnet && random.IntN(4) == 0 && len(packet) > header.IPv6MinimumSize+8 {
				p.sendOdd(packet, random.IntN(1<<(1+random.IntN(16))))
			} else {
				p.send(packet)
			}
			if i%128 == 0 {
				p.settle()
				for _, ok := p.take(); ok; _, ok = p.take() {
				}
				w.receive(largestRecord)
			}
		}
		p.settle()
		w.do(func(*Engine) { w.decide = nil })
		if s := w.stats(); s.DatagramsUp == 0 || s.DatagramsDown == 0 || s.DropMalformed == 0 || s.ChecksumErrors == 0 || s.Refused == 0 {
			t.Errorf("not much happened: %+v", s)
		}
		p.stillWorks(51000)
		w.close()
		eventually(t, "the sockets to be closed", func() bool { return openFDs(t) <= fds+2 }) // stillWorks' and the relay's
	})
}
