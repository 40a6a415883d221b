package tlswire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/tlstest"
)

const patience = time.Minute

type outcome struct {
	wire *Wire
	err  error
}

// loop tells a handshake of what happens to its socket, until stop is called.
func loop(t *testing.T, fd int, h *Handshake) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			default:
			}
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, _ := unix.Poll(fds, 5); n > 0 {
				h.Ready()
				runtime.Gosched()
			}
		}
	}()
	return func() { close(over); <-ended }
}

// begin does a handshake.
func begin(t *testing.T, fd int, config *tls.Config) outcome {
	t.Helper()
	done := make(chan outcome, 1)
	h := Begin(fd, nil, nil, config, func(w *Wire, err error) { done <- outcome{w, err} })
	defer loop(t, fd, h)()
	select {
	case got := <-done:
		return got
	case <-time.After(patience):
		t.Fatal("the handshake does not end")
	}
	return outcome{}
}

type fixture struct {
	wire   *Wire
	fd     int
	server *tls.Conn
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	authority := tlstest.NewAuthority(t)
	config, err := Config(Options{Authorities: authority.PEM, Host: "proxy.test"})
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, config, authority.Server(t, "proxy.test", time.Now().Add(time.Hour)))
}

func connect(t *testing.T, config, served *tls.Config) *fixture {
	t.Helper()
	fd, conn := tlstest.Pair(t)
	f := &fixture{fd: fd, server: tls.Server(conn, served)}
	t.Cleanup(func() { _ = unix.Close(fd); _ = conn.Close() })
	shaken := make(chan error, 1)
	go func() { shaken <- f.server.Handshake() }()
	got := begin(t, fd, config)
	if err := errors.Join(got.err, <-shaken); err != nil {
		t.Fatal(err)
	}
	f.wire = got.wire
	return f
}

// read reads until there is something, or an end or error.
func (f *fixture) read(t *testing.T, p []byte) (int, unix.Errno) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		n, errno := f.wire.Read(p)
		if errno != unix.EAGAIN {
			return n, errno
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}, 100)
	}
	t.Fatal("nothing comes")
	return 0, 0
}

// Bytes arrive as they were, both ways, in reads and writes of any size, though the socket
// is full again and again.
func TestCarries(t *testing.T) {
	f := newFixture(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	go func() { _, _ = io.Copy(f.server, f.server) }()
	var got []byte
	buffer := make([]byte, 50000)
	sent, blocked := 0, 0
	for end := time.Now().Add(patience); len(got) < len(data) && time.Now().Before(end); {
		if sent < len(data) {
			n, errno := f.wire.Write(data[sent:min(len(data), sent+40000)])
			if sent += n; errno == unix.EAGAIN {
				blocked++
			} else if errno != 0 {
				t.Fatal(errno)
			}
		} else if errno := f.wire.Flush(); errno != 0 && errno != unix.EAGAIN {
			t.Fatal(errno)
		}
		n, errno := f.wire.Read(buffer)
		if errno == unix.EAGAIN {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}, 1)
		} else if errno != 0 || n == 0 {
			t.Fatal(n, errno)
		}
		got = append(got, buffer[:n]...)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d came back, or others", len(got), len(data))
	}
	if blocked == 0 {
		t.Error("the socket was never full: this says nothing")
	}
}

// A record that comes in pieces is read once it is whole, and nothing is lost of it.
func TestRecordInPieces(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	config, _ := Config(Options{Authorities: authority.PEM, Host: "proxy.test"})
	fd, conn := tlstest.Pair(t)
	defer unix.Close(fd)
	slow := &pieces{Conn: conn}
	server := tls.Server(slow, authority.Server(t, "proxy.test", time.Now().Add(time.Hour)))
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	got := begin(t, fd, config)
	if err := errors.Join(got.err, <-shaken); err != nil {
		t.Fatal(err)
	}
	f := &fixture{wire: got.wire, fd: fd, server: server}
	slow.slow = true
	go func() { _, _ = server.Write([]byte("in pieces")) }()
	p := make([]byte, 100)
	if n, errno := f.read(t, p); errno != 0 || string(p[:n]) != "in pieces" {
		t.Errorf("%q, %v", p[:n], errno)
	}
}

type pieces struct {
	net.Conn
	slow bool
}

func (p *pieces) Write(b []byte) (int, error) {
	if !p.slow {
		return p.Conn.Write(b)
	}
	for i := range b {
		if _, err := p.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		runtime.Gosched()
	}
	return len(b), nil
}

// An end is told as an end, again and again, with a close_notify and without; the other
// direction goes on after one.
func TestEnds(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		f := newFixture(t)
		if orderly {
			_ = f.server.CloseWrite()
		} else {
			_ = f.server.NetConn().(*net.UnixConn).CloseWrite()
		}
		p := make([]byte, 10)
		for range 2 {
			if n, errno := f.read(t, p); n != 0 || errno != 0 {
				t.Errorf("orderly %v: %d, %v", orderly, n, errno)
			}
		}
		if _, errno := f.wire.Write([]byte("more")); errno != 0 || f.wire.Flush() != 0 {
			t.Errorf("orderly %v: the other direction says %v", orderly, errno)
		}
		if n, err := f.server.Read(p); err != nil || string(p[:n]) != "more" {
			t.Errorf("orderly %v: %q, %v", orderly, p[:n], err)
		}
	}
}

// CloseWrite is an end for the peer, and what it sends afterwards is still read.
func TestCloseWrite(t *testing.T) {
	f := newFixture(t)
	f.wire.CloseWrite()
	f.wire.Flush()
	p := make([]byte, 10)
	if n, err := f.server.Read(p); n != 0 || err != io.EOF {
		t.Errorf("the peer sees %d, %v", n, err)
	}
	go func() { _, _ = f.server.Write([]byte("late")) }()
	if n, errno := f.read(t, p); errno != 0 || string(p[:n]) != "late" {
		t.Errorf("%q, %v", p[:n], errno)
	}
}

// A record that was changed on the way, or that is cut off, is an error and no end.
func TestDamage(t *testing.T) {
	for damage, want := range map[string]unix.Errno{
		"\x17\x03\x03\x00\x20" + "0123456789abcdef0123456789abcdef": unix.EPROTO,
		"GET / HTTP/1.1\r\n\r\n":                                    unix.EPROTO,
		"\x17\x03\x03\x00\x20cut":                                   unix.ECONNRESET,
	} {
		f := newFixture(t)
		_, _ = f.server.NetConn().Write([]byte(damage))
		_ = f.server.NetConn().(*net.UnixConn).CloseWrite()
		if n, errno := f.read(t, make([]byte, 100)); n != 0 || errno != want {
			t.Errorf("%q: %d, %v, not %v", damage, n, errno, want)
		}
	}
}

// A failed handshake says what is wrong in OpenSSL's words.
func TestFlaws(t *testing.T) {
	authority, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	hour := time.Now().Add(time.Hour)
	good := authority.Server(t, "proxy.test", hour)
	for name, each := range map[string]struct {
		served *tls.Config
		host   string
		flaw   Flaw
		reason string
	}{
		"expired":   {authority.Server(t, "proxy.test", time.Now().Add(-time.Minute)), "proxy.test", Untrusted, "certificate has expired"},
		"early":     {authority.Server(t, "proxy.test", time.Now().Add(9*time.Hour)), "proxy.test", Untrusted, "certificate is not yet valid"},
		"name":      {good, "other.test", Untrusted, "Hostname mismatch, certificate is not valid for 'other.test'"},
		"address":   {good, "192.0.2.1", Untrusted, "IP address mismatch, certificate is not valid for '192.0.2.1'"},
		"authority": {other.Server(t, "proxy.test", hour), "proxy.test", Untrusted, "unable to get local issuer certificate"},
		"old":       {&tls.Config{Certificates: good.Certificates, MaxVersion: tls.VersionTLS11}, "proxy.test", NotTLS, "protocol version not supported"},
	} {
		config, err := Config(Options{Authorities: authority.PEM, Host: each.host})
		if err != nil {
			t.Fatal(err)
		}
		fd, conn := tlstest.Pair(t)
		go func() { _ = tls.Server(conn, each.served).Handshake() }()
		got := begin(t, fd, config)
		flaw, reason, _ := Describe(got.err, each.host)
		if flaw != each.flaw || reason != each.reason {
			t.Errorf("%s: %v, %q (%v)", name, flaw, reason, got.err)
		}
		_ = unix.Close(fd)
		_ = conn.Close()
	}
}

// What is no TLS is called so, and an end is called an end.
func TestNoTLS(t *testing.T) {
	for said, want := range map[string]Flaw{"HTTP/1.1 400 Bad Request\r\n\r\n": NotTLS, "\x05\x00": Ended, "": Ended} {
		config, _ := Config(Options{Host: "proxy.test"})
		fd, conn := tlstest.Pair(t)
		_, _ = conn.Write([]byte(said))
		_ = conn.(*net.UnixConn).CloseWrite()
		got := begin(t, fd, config)
		if flaw, _, _ := Describe(got.err, "proxy.test"); flaw != want {
			t.Errorf("%q: %v (%v)", said, flaw, got.err)
		}
		_ = unix.Close(fd)
		_ = conn.Close()
	}
}

// A handshake that is dropped ends, and leaves no goroutine behind.
func TestDrop(t *testing.T) {
	config, _ := Config(Options{Host: "proxy.test"})
	before := runtime.NumGoroutine()
	fd, conn := tlstest.Pair(t)
	defer conn.Close()
	defer unix.Close(fd)
	done := make(chan error, 1)
	h := Begin(fd, nil, nil, config, func(_ *Wire, err error) { done <- err })
	h.Drop()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it succeeded")
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a goroutine is left")
		}
	}
}

// The second connection to a proxy takes up the session of the first.
func TestResumes(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	config, _ := Config(Options{Authorities: authority.PEM, Host: "proxy.test"})
	served := authority.Server(t, "proxy.test", time.Now().Add(time.Hour))
	first := connect(t, config, served)
	if first.wire.Resumed() {
		t.Error("there was nothing to resume")
	}
	// The tickets come with the first bytes (RFC 8446, section 4.6.1).
	_, _ = first.server.Write([]byte("x"))
	first.read(t, make([]byte, 1))
	if second := connect(t, config, served); !second.wire.Resumed() {
		t.Error("it did not resume")
	}
}

// A file without a certificate is refused.
func TestNoCertificate(t *testing.T) {
	if _, err := Config(Options{Authorities: []byte("nothing")}); err != ErrNoCertificate {
		t.Error(err)
	}
}
