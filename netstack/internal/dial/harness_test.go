package dial

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/lent"
)

// waitLimit bounds every wait of a test.
const waitLimit = time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// openLent opens what lent ends keep for ever.
var openLent = sync.OnceFunc(func() {
	fds, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	end, _ := lent.Secure(fds[0], nil, &tls.Config{InsecureSkipVerify: true})
	_ = unix.Close(fds[1])
	file := os.NewFile(uintptr(end), "end")
	_, _ = io.Copy(io.Discard, file)
	_ = file.Close()
})

// bench is a loop with a dial, and its owner.
type bench struct {
	t      *testing.T
	loop   *carry.Loop
	dial   *Dial
	ends   chan *Result
	silent chan struct{}
}

// newBench checks, when the test is over, that no fd is left.
func newBench(t *testing.T) *bench {
	t.Helper()
	_, _ = net.LookupPort("tcp", "http") // what the process opens once
	openLent()
	before := openFDs(t)
	loop, err := carry.NewLoop(time.Hour)
	must(t, err)
	b := &bench{t: t, loop: loop, ends: make(chan *Result, 4), silent: make(chan struct{}, 4)}
	t.Cleanup(func() {
		loop.Close()
		eventually(t, "all fds to be closed", func() bool { return openFDs(t) <= before })
	})
	return b
}

// Ended implements Owner.
func (b *bench) Ended(end *Result) { b.ends <- end }

// Silent implements Owner.
func (b *bench) Silent() { b.silent <- struct{}{} }

func (b *bench) start(c *Course) {
	b.dial = New(b.loop, c, request, b)
	b.dial.Start()
}

// end waits for the dial's end, and checks what is always so.
func (b *bench) end() *Result {
	b.t.Helper()
	select {
	case end := <-b.ends:
		if has := end.FD >= 0; has != (end.Kind == Opened || end.Kind == HandedOn) {
			b.t.Fatalf("%+v", end)
		}
		return end
	case <-time.After(waitLimit):
		b.t.Fatal("the dial does not end")
		return nil
	}
}

// expect waits for the end, of this kind at this step. An fd is closed with the test.
func (b *bench) expect(kind Kind, step int) *Result {
	b.t.Helper()
	end := b.end()
	if end.Kind != kind || end.Step != step {
		b.t.Fatalf("%+v, not of kind %d at step %d", end, kind, step)
	}
	return end
}

// turn waits until the loop has done everything that it was asked for.
func (b *bench) turn() {
	b.t.Helper()
	done := make(chan struct{})
	b.loop.Call(func() { close(done) })
	<-done
}

// taken is an fd of a result as a connection.
func taken(t *testing.T, end *Result) net.Conn {
	t.Helper()
	file := os.NewFile(uintptr(end.FD), "leg")
	conn, err := net.FileConn(file)
	must(t, err)
	must(t, file.Close())
	must(t, conn.SetDeadline(time.Now().Add(waitLimit)))
	return conn
}

// server is a listener that is played by a test.
type server struct {
	t        *testing.T
	listener net.Listener
	address  []byte
}

func newServer(t *testing.T, network string) *server {
	t.Helper()
	where := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "s")}[network]
	listener, err := net.Listen(network, where)
	if err != nil && network == "tcp6" {
		t.Skip("there is no IPv6")
	}
	must(t, err)
	s := &server{t: t, listener: listener}
	if network == "unix" {
		s.address = sockaddrUnix(where)
	} else {
		s.address = sockaddr(netip.MustParseAddrPort(listener.Addr().String()))
	}
	return s
}

func (s *server) close() { _ = s.listener.Close() }

func (s *server) accept() net.Conn {
	s.t.Helper()
	conn, err := s.listener.Accept()
	must(s.t, err)
	must(s.t, conn.SetDeadline(time.Now().Add(waitLimit)))
	return conn
}

// read checks what comes.
func (s *server) read(conn net.Conn, want string) {
	s.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		s.t.Fatalf("%q came, not %q; %v", got, want, err)
	}
}

func (s *server) write(conn net.Conn, answer string) {
	s.t.Helper()
	_, err := conn.Write([]byte(answer))
	must(s.t, err)
}

// play takes the turns of a conversation, and reads what is sent in the one after them.
func (s *server) play(conn net.Conn, g *golden, turns int) {
	s.t.Helper()
	for i, turn := range g.turns[:min(turns+1, len(g.turns))] {
		s.read(conn, turn.sent)
		if i < turns {
			s.write(conn, turn.answer)
		}
	}
}

func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// expectReset reads until the connection is reset.
func expectReset(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("no reset, but %v", err)
	}
	_ = conn.Close()
}

// nobody is an address that refuses connections.
func nobody(t *testing.T) []byte {
	t.Helper()
	s := newServer(t, "tcp4")
	s.close()
	return s.address
}

// deaf is an address that does not answer, until end is called.
func deaf(t *testing.T) (address []byte, end func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	must(t, err)
	fds := []int{fd}
	for range 4 { // more than it keeps
		one, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		_ = unix.Connect(one, name)
		fds = append(fds, one)
	}
	return sockaddr(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))), func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
}

// courseTo is one with these steps and addresses, and much time.
func courseTo(t *testing.T, g *golden, addresses ...[]byte) *Course {
	t.Helper()
	b := blob{timeout: time.Hour, addresses: addresses, steps: g.steps}
	return b.course(t)
}
