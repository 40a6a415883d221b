package carry

import (
	"bytes"
	"crypto/tls"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/tlstest"
	"nanotun/netstack/internal/tlswire"
)

// newWireFixture is a flow inside TLS; server is the other end.
func newWireFixture(t *testing.T) (f *fixture, server *tls.Conn) {
	t.Helper()
	authority := tlstest.NewAuthority(t)
	config, err := tlswire.Config(tlswire.Options{Authorities: authority.PEM, Host: "proxy.test"})
	if err != nil {
		t.Fatal(err)
	}
	fd, conn := tlstest.Pair(t)
	server = tls.Server(conn, authority.Server(t, "proxy.test", time.Now().Add(time.Hour)))
	go func() { _ = server.Handshake() }()
	shaken := make(chan *tlswire.Wire, 1)
	h := tlswire.Begin(fd, nil, nil, config, func(w *tlswire.Wire, err error) {
		if err != nil {
			t.Error(err)
		}
		shaken <- w
	})
	var wire *tlswire.Wire
	for wire == nil {
		select {
		case wire = <-shaken:
		case <-time.After(time.Millisecond):
			h.Ready()
		}
	}
	spare, err := unix.Dup(fd) // the fixture closes one
	if err != nil {
		t.Fatal(err)
	}
	f = newFixtureOn(t, [2]int{fd, spare}, time.Hour)
	f.flow.Wire = wire
	f.flow.Start()
	t.Cleanup(func() { _ = conn.Close() })
	return f, server
}

// What the app sends reaches the other end of the TLS, and what that sends reaches the app.
func TestInTLS(t *testing.T) {
	f, server := newWireFixture(t)
	f.pump(header.TCPFlagAck|header.TCPFlagPsh, []byte("question"))
	p := make([]byte, 100)
	if n, err := server.Read(p); err != nil || string(p[:n]) != "question" {
		t.Errorf("%q, %v", p[:n], err)
	}
	_, _ = server.Write([]byte("answer"))
	if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != "answer" {
		t.Errorf("the app got %q", got.Payload())
	}
	if up, down := f.flow.Bytes(); up != 8 || down != 6 {
		t.Errorf("%d up, %d down", up, down)
	}
}

// The app's FIN is a close_notify; the answer still comes, and its end is the app's.
func TestHalfClosedInTLS(t *testing.T) {
	f, server := newWireFixture(t)
	f.pump(header.TCPFlagAck|header.TCPFlagFin, nil)
	if n, err := server.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("the server sees %d, %v", n, err)
	}
	_, _ = server.Write([]byte("late"))
	if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != "late" {
		t.Errorf("the app got %q", got.Payload())
	}
	_ = server.CloseWrite()
	f.Await("the FIN", header.TCPFlagFin)
	f.end(t, 0)
}

// A server that reads slowly gets every byte, the last ones before the app's FIN included.
func TestBacklogInTLS(t *testing.T) {
	f, server := newWireFixture(t)
	part := bytes.Repeat([]byte("0123456789abcdef"), 64)
	const parts = 400 // more than the socket takes, and less than it takes with the endpoint
	for range parts {
		f.pump(header.TCPFlagAck|header.TCPFlagPsh, part)
	}
	f.pump(header.TCPFlagAck|header.TCPFlagFin, nil)
	upDone := make(chan bool)
	f.flow.OnLoop(func() { upDone <- f.flow.upDone }) // a step of the loop may be running
	if <-upDone {
		t.Error("the socket was never full: this says nothing")
	}
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, bytes.Repeat(part, parts)) {
		t.Errorf("%d bytes of %d, %v", len(got), parts*len(part), err)
	}
}

// A record that was changed on the way resets the app, after what came before it.
func TestDamagedInTLS(t *testing.T) {
	f, server := newWireFixture(t)
	_, _ = server.Write([]byte("good"))
	if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != "good" {
		t.Errorf("the app got %q", got.Payload())
	}
	f.pump(header.TCPFlagAck, nil)
	_, _ = server.NetConn().Write([]byte("\x17\x03\x03\x00\x20" + "0123456789abcdef0123456789abcdef"))
	f.Await("the reset", header.TCPFlagRst)
	f.end(t, unix.EPROTO)
}
