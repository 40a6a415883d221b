package engine

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// upstream is a TCP connection over loopback: fd is the end for Join, conn the
// server that the test plays.
type upstream struct {
	fd   int
	conn *net.TCPConn
}

func newUpstream(t *testing.T) upstream {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer listener.Close()
	client, err := net.DialTCP("tcp4", nil, listener.Addr().(*net.TCPAddr))
	must(t, err)
	defer client.Close() // the duplicate lives on
	server, err := listener.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { _ = server.Close() })
	must(t, server.SetDeadline(time.Now().Add(4*patience)))
	raw, err := client.SyscallConn()
	must(t, err)
	u := upstream{conn: server}
	var failed error
	must(t, raw.Control(func(fd uintptr) {
		u.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	}))
	must(t, failed)
	return u
}

// join joins a flow to a new upstream, on the pump's thread; or has its dial succeed, if it
// is dialled by a standing decision.
func (w *world) join(flow uint64, leftover []byte) *net.TCPConn {
	w.t.Helper()
	if w.path != nil {
		if conn := w.path.answer(flow, leftover); conn != nil {
			return conn
		}
	}
	u := newUpstream(w.t)
	var err error
	w.do(func(e *Engine) { err = e.Join(flow, u.fd, leftover, 0) })
	if err != nil {
		w.t.Fatalf("Join: %s", err)
	}
	return u.conn
}
