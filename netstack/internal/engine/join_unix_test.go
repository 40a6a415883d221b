package engine

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"nanotun/netstack/internal/events"
)

// A flow is joined to a unix socket as to any other.
func TestJoinAUnixSocket(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		go func() {
			if conn, err := a.dial(53); err == nil {
				_, _ = io.Copy(conn, conn)
				_ = conn.CloseWrite()
			}
		}()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		flow := a.event(events.TCPRequest, 1).Flow
		a.do(func(e *Engine) { must(t, e.Join(flow, fds[0], nil, 0)) })
		mine := &unixEnd{fds[1]}
		go func() {
			_, _ = stream(mine, 3, 1<<20)
			_ = unix.Shutdown(fds[1], unix.SHUT_WR)
		}()
		_, size, err := swallow(mine)
		if err != nil || size != 1<<20 {
			t.Errorf("%d bytes came back, %v", size, err)
		}
		if e := a.closed(flow); e.Error != 0 {
			t.Errorf("closed with %d", e.Error)
		}
		_ = unix.Close(fds[1])
	})
}

// unixEnd is a blocking socket as a reader and writer.
type unixEnd struct{ fd int }

func (u *unixEnd) Read(p []byte) (int, error) {
	n, err := unix.Read(u.fd, p)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return max(n, 0), err
}

func (u *unixEnd) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(u.fd, p[done:])
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// What is no connected socket ends the flow at once and shows the app a reset.
func TestJoinNoSocket(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		fds := make([]int, 2)
		must(t, unix.Pipe2(fds, unix.O_CLOEXEC))
		defer unix.Close(fds[1])
		result := make(chan *gonet.TCPConn, 1)
		go func() {
			conn, _ := a.dial(53)
			result <- conn
		}()
		flow := a.event(events.TCPRequest, 1).Flow
		a.do(func(e *Engine) { must(t, e.Join(flow, fds[0], nil, 0)) })
		if conn := <-result; conn != nil {
			expectReset(t, conn)
		}
		if e := a.closed(flow); e.Error == 0 {
			t.Error("closed without an error")
		}
	})
}
