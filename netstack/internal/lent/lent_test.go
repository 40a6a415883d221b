package lent

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/tlstest"
	"nanotun/netstack/internal/tlswire"
)

const patience = time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// side is what both sides of a connection are for a test.
type side struct {
	t *testing.T
	net.Conn
}

func (s side) say(text string) {
	s.t.Helper()
	_, err := s.Write([]byte(text))
	must(s.t, err)
}

func (s side) hear(want string) {
	s.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != want {
		s.t.Fatalf("%q came, not %q; %v", got, want, err)
	}
}

// takeEnd is a lent end for a test, and its fd.
func takeEnd(t *testing.T, end int) side {
	t.Helper()
	file := os.NewFile(uintptr(end), "end")
	conn, err := net.FileConn(file)
	must(t, err)
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return side{t, conn}
}

// fixture is a lent end and the server at the other side of its connection.
type fixture struct {
	authority *tlstest.Authority
	config    *tls.Config
	served    *tls.Config
	end       int
	server    side
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{authority: tlstest.NewAuthority(t)}
	var err error
	f.config, err = tlswire.Config(tlswire.Options{Authorities: f.authority.PEM, Host: "safe.test"})
	must(t, err)
	f.served = f.authority.Server(t, "safe.test", time.Now().Add(time.Hour))
	fd, conn := tlstest.Pair(t)
	f.end, err = Secure(fd, nil, f.config)
	must(t, err)
	f.server = f.serve(t, conn)
	return f
}

func (f *fixture) serve(t *testing.T, below net.Conn) side {
	t.Helper()
	must(t, below.SetDeadline(time.Now().Add(patience)))
	server := tls.Server(below, f.served)
	must(t, server.Handshake())
	t.Cleanup(func() { _ = below.Close() })
	return side{t, server}
}

// hear reads from an fd what is expected.
func hear(t *testing.T, fd int, want string) {
	t.Helper()
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience/time.Millisecond))
		must(t, err)
		m, err := unix.Read(fd, got[n:])
		if must(t, err); m == 0 {
			break
		}
		n += m
	}
	if string(got) != want {
		t.Fatalf("%q came, not %q", got, want)
	}
}

// What is under way when the connection is taken back is lost in neither direction.
func TestReclaims(t *testing.T) {
	f := newFixture(t)
	hear(t, f.end, "\x00")
	// Much more than the pair takes, so that the relay holds some of it, and the wire, too.
	much := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	sent := make(chan error, 1)
	go func() { _, err := f.server.Write(much); sent <- err }()
	hear(t, f.end, string(much[:1000]))
	_, err := unix.Write(f.end, []byte("up"))
	must(t, err)
	leg := Reclaim(f.end)
	if leg.Wire == nil {
		t.Fatal("it is not taken back")
	}
	defer unix.Close(leg.FD)
	f.server.hear("up")
	got := leg.Leftover
	if len(got) == 0 {
		t.Error("nothing was under way: this says nothing")
	}
	buffer := make([]byte, 1<<16)
	for end := time.Now().Add(patience); len(got) < len(much)-1000 && time.Now().Before(end); {
		n, errno := leg.Wire.Read(buffer)
		if errno == unix.EAGAIN {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(leg.FD), Events: unix.POLLIN}}, 100)
		}
		got = append(got, buffer[:n]...)
	}
	must(t, <-sent)
	if !bytes.Equal(got, much[1000:]) {
		t.Errorf("%d bytes came, or others", len(got))
	}
	if _, err := unix.Read(f.end, buffer); err != unix.EBADF {
		t.Errorf("the end is not closed: %v", err)
	}
}

// TLS begins in what an end was lent for, without a relay between the two, and another
// socket than a lent end stays what it is.
func TestWithinTLS(t *testing.T) {
	f := newFixture(t)
	hear(t, f.end, "\x00")
	inner, err := Secure(f.end, nil, f.config)
	must(t, err)
	server := f.serve(t, f.server)
	hear(t, inner, "\x00")
	_, err = unix.Write(inner, []byte("up"))
	must(t, err)
	server.hear("up")
	server.say("down")
	hear(t, inner, "down")
	leg := Reclaim(inner)
	if leg.Wire == nil {
		t.Fatal("it is not taken back")
	}
	if other := Reclaim(leg.FD); other.FD != leg.FD || other.Wire != nil {
		t.Errorf("%+v", other)
	}
	if _, errno := leg.Wire.Write([]byte("more")); errno != 0 || leg.Wire.Flush() != 0 {
		t.Fatal(errno)
	}
	server.hear("more")
	must(t, unix.Close(leg.FD))
}

// What came too early belongs to TLS.
func TestEarly(t *testing.T) {
	config, err := tlswire.Config(tlswire.Options{Host: "safe.test"})
	must(t, err)
	fd, conn := tlstest.Pair(t)
	defer conn.Close()
	end, err := Secure(fd, []byte("220 hello"), config)
	must(t, err)
	hear(t, end, "\x02\x14wrong version number")
	must(t, unix.Close(end))
}

// Each direction ends by itself.
func TestHalfCloses(t *testing.T) {
	f := newFixture(t)
	end := takeEnd(t, f.end)
	end.hear("\x00")
	must(t, end.Conn.(*net.UnixConn).CloseWrite())
	_, err := f.server.Read(make([]byte, 1))
	if err != io.EOF {
		t.Error(err)
	}
	f.server.say("late")
	must(t, f.server.Conn.(*tls.Conn).CloseWrite())
	end.hear("late")
	if _, err := end.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

// Both directions carry more than fits into any buffer, at the same time.
func TestRelays(t *testing.T) {
	f := newFixture(t)
	end := takeEnd(t, f.end)
	end.hear("\x00")
	much := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() { _, _ = io.Copy(f.server, f.server) }()
	go func() { _, _ = end.Write(much) }()
	got := make([]byte, len(much))
	if _, err := io.ReadFull(end, got); err != nil || !bytes.Equal(got, much) {
		t.Errorf("other bytes came back, %v", err)
	}
}

// An end that is closed before TLS is ready closes the connection, and one whose TLS is not
// ready is not taken back.
func TestUnready(t *testing.T) {
	config, err := tlswire.Config(tlswire.Options{Host: "safe.test"})
	must(t, err)
	fd, conn := tlstest.Pair(t)
	end, err := Secure(fd, nil, config)
	must(t, err)
	if leg := Reclaim(end); leg.FD != end || leg.Wire != nil {
		t.Errorf("%+v", leg)
	}
	must(t, unix.Close(end))
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Error(err)
	}
}

// The socket of a lent end can be duplicated, and no other.
func TestSocket(t *testing.T) {
	f := newFixture(t)
	fd, err := Socket(f.end)
	must(t, err)
	if _, err := Socket(fd); err != unix.ENOENT {
		t.Error(err)
	}
	_, _ = unix.Close(fd), unix.Close(f.end)
}
