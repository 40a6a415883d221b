package engine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
)

// A direct leg's peers have addresses that no loopback has, so these tests have a
// network of their own, in which every address of the far network is this host's.
// A socket stays in the network that it was made in.

// inNetwork runs f in a thread that is in a new network namespace, and ends it.
func inNetwork(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes a network")
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		for _, command := range [][]string{
			{"link", "set", "lo", "up"},
			{"addr", "add", "203.0.113.7/32", "dev", "lo"},
			{"addr", "add", "203.0.113.8/32", "dev", "lo"},
			{"addr", "add", "2001:db8::7/128", "dev", "lo"},
			{"addr", "add", "2001:db8::8/128", "dev", "lo"},
			{"route", "add", "unreachable", "192.0.2.1/32"},
			{"route", "add", "prohibit", "192.0.2.2/32"},
			{"route", "add", "unreachable", "2001:db8:1::1/128"},
			{"route", "add", "prohibit", "2001:db8:1::2/128"},
		} {
			if out, err := exec.Command("ip", command...).CombinedOutput(); err != nil {
				result <- fmt.Errorf("ip %v: %w: %s", command, err, out)
				return
			}
		}
		result <- f()
	}()
	must(t, <-result)
}

// directLeg is a leg, and servers at an address and its neighbour, all in a
// network of their own.
func directLeg(t *testing.T, v variant) (fd int, servers [2]*outside) {
	t.Helper()
	inNetwork(t, func() (err error) {
		for i, address := range []netip.Addr{v.far(), v.far().Next()} {
			conn, err := listenSoon(netip.AddrPortFrom(address, 5001))
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = conn.Close() })
			servers[i] = &outside{t, conn}
		}
		fd, err = unix.Socket(pick(v.six, unix.AF_INET6, unix.AF_INET), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	return fd, servers
}

// listenSoon listens on an address that was just added: the kernel takes an IPv6
// one for its own a moment after "ip" is done.
func listenSoon(address netip.AddrPort) (conn *net.UDPConn, err error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
		if !errors.Is(err, unix.EADDRNOTAVAIL) || time.Now().After(deadline) {
			return conn, err
		}
	}
}

// Datagrams go out by a direct leg as they are, each to its destination, alone and
// together, and anybody's reply comes back as from them.
func TestDirectLeg(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		app, far := v.ends()
		next := netip.AddrPortFrom(far.Addr().Next(), 5001)
		fd, servers := directLeg(t, v)
		request := p.datagramFlow(app, far, []byte("one"))
		id := w.associate(fd, datagram.Direct, false)
		must(t, w.attach(request.Flow, id))
		b, leg := servers[0].read()
		if string(b) != "one" {
			t.Errorf("%q", b)
		}
		for _, size := range []int{0, 1, 1400, 8000, 65507} {
			p.sendFragments(app, far, pattern(0, size), 1400, uint16(size))
			if b, _ := servers[0].read(); !bytes.Equal(b, pattern(0, size)) {
				t.Errorf("%d bytes came as %d", size, len(b))
			}
			servers[0].write(pattern(1, size), leg)
			if g := p.datagram(); g.source != far || g.destination != app || !bytes.Equal(g.payload, pattern(1, size)) {
				t.Errorf("%d bytes came back as %d from %s", size, len(g.payload), g.source)
			}
		}
		servers[1].write([]byte("a third party"), leg)
		if g := p.datagram(); g.source != next || string(g.payload) != "a third party" {
			t.Errorf("%+v", g)
		}
		must(t, w.attach(p.datagramFlow(app, next, []byte("two")).Flow, id))
		if b, from := servers[1].read(); string(b) != "two" || from.Port() != leg.Port() {
			t.Errorf("%q from %s, not %s", b, from, leg)
		}
		w.do(func(*Engine) { // all in one turn of the pump
			for i := range 60 {
				p.sendDatagram(app, pick(i%4 == 0, next, far), pattern(i, 100))
			}
		})
		for i := range 60 {
			if b, _ := servers[pick(i%4 == 0, 1, 0)].read(); !bytes.Equal(b, pattern(i, 100)) {
				t.Fatalf("datagram %d: %d bytes", i, len(b))
			}
		}
		if s := w.stats(); s.DropSend != 0 || s.DropReply != 0 || s.DatagramsUp != 67 || s.DatagramsDown != 6 {
			t.Errorf("%+v", s)
		}
	})
}

// What is sent together by a direct leg, and received together, is whole.
func TestDirectLegTogether(t *testing.T) {
	forEach(t, vnetVariants(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		app, far := v.ends()
		fd, servers := directLeg(t, v)
		must(t, w.attach(p.datagramFlow(app, far, nil).Flow, w.associate(fd, datagram.Direct, false)))
		_, leg := servers[0].read()
		p.sendSegmented(app, far, pattern(0, 50*1200+7), 1200)
		for at := 0; at < 50*1200+7; at += 1200 {
			if b, _ := servers[0].read(); !bytes.Equal(b, pattern(at, min(1200, 50*1200+7-at))) {
				t.Fatalf("the one at %d: %d bytes", at, len(b))
			}
		}
		release := w.holdLoops()
		for i := range 100 {
			servers[i/2%2].write(pattern(i, 1000), leg)
		}
		release()
		for i := range 100 {
			from := pick(i/2%2 == 0, far, netip.AddrPortFrom(far.Addr().Next(), 5001))
			if g := p.datagram(); g.source != from || !bytes.Equal(g.payload, pattern(i, 1000)) {
				t.Fatalf("datagram %d: %d bytes from %s", i, len(g.payload), g.source)
			}
		}
	})
}

// A destination that cannot be reached is told of as such, and the leg and its
// other destinations live on.
func TestDirectLegUnreachable(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p := newPlayer(w)
		app, far := v.ends()
		fd, servers := directLeg(t, v)
		id := w.associate(fd, datagram.Direct, false)
		must(t, w.attach(p.datagramFlow(app, far, []byte("x")).Flow, id))
		_, leg := servers[0].read()
		for address, how := range map[string]Refusal{
			pick(v.six, "2001:db8::7", "203.0.113.7"):    RefusePortUnreachable, // by ICMP, later
			pick(v.six, "2001:db8:1::1", "192.0.2.1"):    RefuseHostUnreachable,
			pick(v.six, "2001:db8:1::2", "192.0.2.2"):    RefuseProhibited,
			pick(v.six, "2001:db8:2::1", "198.51.100.1"): RefuseNetUnreachable,
		} {
			to := netip.AddrPortFrom(netip.MustParseAddr(address), 4000)
			must(t, w.attach(p.datagramFlow(app, to, []byte("x")).Flow, id))
			for range 3 {
				p.expectRefusal(p.next(), how, app, to)
				p.sendDatagram(app, to, []byte("x"))
			}
			p.expectRefusal(p.next(), how, app, to)
			p.silence()
			p.sendDatagram(app, far, []byte("alive"))
			if b, _ := servers[0].read(); string(b) != "alive" {
				t.Errorf("%q", b)
			}
			servers[0].write([]byte("kicking"), leg)
			if g := p.datagram(); string(g.payload) != "kicking" {
				t.Errorf("%+v", g)
			}
		}
		if n := len(w.events(events.AssociationClosed)); n != 0 {
			t.Errorf("%d associations ended", n)
		}
	})
}

// A socket with an error that never goes away does not keep a loop busy.
func TestDirectLegDoesNotSpin(t *testing.T) {
	v := families()[0]
	w := newWorld(t, v)
	p := newPlayer(w)
	app, far := v.ends()
	fd, servers := directLeg(t, v)
	must(t, w.attach(p.datagramFlow(app, far, []byte("x")).Flow, w.associate(fd, datagram.Direct, false)))
	servers[0].read()
	_ = servers[0].conn.Close()
	p.sendDatagram(app, far, []byte("x"))
	p.expectRefusal(p.next(), RefusePortUnreachable, app, far)
	p.settle()
	var before, after unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &before))
	<-time.After(300 * time.Millisecond)
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &after))
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if used > 150*time.Millisecond {
		t.Errorf("%s of 300 ms were used by an idle engine", used)
	}
}
