package datagram

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/link"
)

// sending is a sender and one association, on a UDP socket over loopback.
type sending struct {
	*sender
	a     *Association
	there *net.UDPConn
}

func newSending(t *testing.T, leg Leg) sending {
	t.Helper()
	there, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = there.Close() })
	_ = there.SetReadBuffer(8 << 20)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	address := there.LocalAddr().(*net.UDPAddr)
	if leg == Socks5 {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}); err != nil {
			t.Fatal(err)
		}
	}
	table := &Table{flows: map[key]*flow{}}
	return sending{&sender{table: table}, &Association{leg: leg, fd: fd, table: table}, there}
}

// to is where the other end listens.
func (s sending) to() link.End { return end(s.there.LocalAddr().String()) }

// expect reads what was sent and returns the sizes.
func (s sending) expect(t *testing.T, payloads [][]byte, header []byte) {
	t.Helper()
	b := make([]byte, 70000)
	for i, want := range payloads {
		_ = s.there.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := s.there.Read(b)
		if err != nil || !bytes.Equal(b[:n], append(bytes.Clone(header), want...)) {
			t.Fatalf("datagram %d of %d: %d bytes, not %d and %d, %v", i, len(payloads), n, len(header), len(want), err)
		}
	}
	_ = s.there.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if n, err := s.there.Read(b); err == nil {
		t.Fatalf("%d bytes more", n)
	}
}

func payloadsOf(sizes ...int) (all [][]byte) {
	for i, size := range sizes {
		all = append(all, bytes.Repeat([]byte{byte('a' + i%26)}, size))
	}
	return all
}

// A run is datagrams of one size, and at most a shorter one at its end; with a
// direct leg, to one destination; and no more than one packet holds.
func TestTogether(t *testing.T) {
	a, b := end("203.0.113.7:1"), end("203.0.113.8:1")
	many := slices.Repeat([]int{1000}, link.MaxTogether)
	for _, c := range []struct {
		sizes []int
		want  []int // the ends of the runs
	}{
		{[]int{5}, []int{1}}, {[]int{0}, []int{1}}, {[]int{0, 0, 5, 0}, []int{1, 2, 3, 4}},
		{[]int{5, 5, 5}, []int{3}}, {[]int{5, 5, 3}, []int{3}}, {[]int{5, 3, 3}, []int{2, 3}},
		{[]int{5, 6}, []int{1, 2}}, {[]int{3, 5, 5, 1, 1}, []int{1, 4, 5}}, {[]int{5, 5, 0, 5}, []int{2, 3, 4}},
		{many, []int{link.MaxTogether}},
		{[]int{30000, 30000, 30000}, []int{2, 3}}, {[]int{65000, 1}, []int{1, 2}}, {[]int{64999, 1, 1}, []int{2, 3}},
	} {
		s := &sender{table: &Table{}, association: &Association{leg: Direct}}
		for i, p := range payloadsOf(c.sizes...) {
			s.buf = append(s.buf, p...)
			s.ends[i], s.to[i] = len(s.buf), a
			s.n++
		}
		var got []int
		for i := 0; i < s.n; i = got[len(got)-1] {
			got = append(got, s.together(i))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, not %v", c.sizes, got, c.want)
		}
	}
	s := &sender{table: &Table{}, association: &Association{leg: Direct}, n: 3, ends: [link.MaxTogether]int{5, 10, 15}, to: [link.MaxTogether]link.End{a, a, b}}
	if j := s.together(0); j != 2 {
		t.Errorf("to two destinations: %d", j)
	}
	s.association.leg = Socks5 // the relay is the one destination
	if j := s.together(0); j != 3 {
		t.Errorf("to one relay: %d", j)
	}
}

// What is added arrives, each datagram whole and in order, whatever runs it makes.
func TestSend(t *testing.T) {
	for _, leg := range []Leg{Direct, Socks5} {
		for name, sizes := range map[string][]int{
			"one": {5}, "empty": {0, 0, 0}, "equal": slices.Repeat([]int{100}, 200), "mixed": {5, 5, 3, 3, 9, 0, 9, 9, 9, 1, 1000, 1000, 20000, 20000, 20000, 20000, 7},
			"rising": {1, 2, 3, 4, 5, 6, 7, 8}, "falling": {8, 7, 6, 5, 4, 3, 2, 1}, "large": {65000, 65000, 1, 65497}, "tiny": slices.Repeat([]int{1}, 64),
		} {
			s := newSending(t, leg)
			to := s.to()
			var header []byte
			if leg == Socks5 {
				to = end("203.0.113.7:53")
				header = appendHeader(nil, &to)
			}
			for _, p := range payloadsOf(sizes...) {
				s.add(s.a, &to, p)
			}
			s.flush()
			s.expect(t, payloadsOf(sizes...), header)
			if up := s.table.Up.Load(); up != uint64(len(sizes)) || s.table.DropSend.Load() != 0 || s.a.single {
				t.Errorf("%s: %d up, %d dropped", name, up, s.table.DropSend.Load())
			}
		}
	}
}

// A socket that cannot send together sends apart, without a loss.
func TestSendApart(t *testing.T) {
	s := newSending(t, Direct)
	s.a.single = true
	to := s.to()
	payloads := payloadsOf(slices.Repeat([]int{100}, 150)...)
	for _, p := range payloads {
		s.add(s.a, &to, p)
	}
	s.flush()
	s.expect(t, payloads, nil)
}

// A kernel that refuses sends of several is asked no more after a few times, and
// nothing is lost by it.
func TestSendTogetherDoesNotWork(t *testing.T) {
	s := newSending(t, Direct)
	// No checksum, no offload (udp(7)): EIO.
	if err := unix.SetsockoptInt(s.a.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
		t.Skip(err)
	}
	to := s.to()
	for round := 1; round <= singleAfter+1; round++ {
		payloads := payloadsOf(100, 100, 100)
		for _, p := range payloads {
			s.add(s.a, &to, p)
		}
		s.flush()
		s.expect(t, payloads, nil)
		if s.a.single != (round >= singleAfter) {
			t.Errorf("after %d: apart is %t", round, s.a.single)
		}
	}
}

// Datagrams of an association that has ended are dropped and counted, and those of
// the next one arrive.
func TestSendAfterTheEnd(t *testing.T) {
	s := newSending(t, Direct)
	to := s.to()
	gone := &Association{leg: Direct, fd: -1, table: s.table}
	s.add(gone, &to, []byte("x"))
	s.add(gone, &to, []byte("y"))
	s.add(s.a, &to, []byte("z"))
	s.flush()
	s.expect(t, [][]byte{[]byte("z")}, nil)
	if s.table.Up.Load() != 1 || s.table.DropSend.Load() != 2 {
		t.Errorf("%d up, %d dropped", s.table.Up.Load(), s.table.DropSend.Load())
	}
}
