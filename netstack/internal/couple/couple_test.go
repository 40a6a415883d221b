package couple

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 10 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair returns one side of a connection as a Go connection, and the other as an fd.
func pair(t *testing.T) (*net.TCPConn, int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = listener.Close() }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	must(t, err)
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = conn.Close() })
	other, err := listener.Accept()
	must(t, err)
	file, err := other.(*net.TCPConn).File()
	must(t, err)
	defer func() { _, _ = other.Close(), file.Close() }()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return conn.(*net.TCPConn), fd
}

// coupled returns the outer sides of two connections that are coupled.
func coupled(t *testing.T) (left, right *net.TCPConn) {
	t.Helper()
	left, a := pair(t)
	right, b := pair(t)
	must(t, Join(a, b))
	return left, right
}

// waitForNone waits until all couples are over.
func waitForNone(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); Count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d couples are left", Count())
		}
	}
}

// Bytes arrive whole, both ways at once, and each end is passed on by itself.
func TestCarries(t *testing.T) {
	left, right := coupled(t)
	var group sync.WaitGroup
	for _, conns := range [][2]*net.TCPConn{{left, right}, {right, left}} {
		sent := make([]byte, 20<<20)
		_, _ = rand.Read(sent)
		group.Add(2)
		go func() {
			defer group.Done()
			_, _ = conns[0].Write(sent)
			_ = conns[0].CloseWrite()
		}()
		go func() {
			defer group.Done()
			if got, err := io.ReadAll(conns[1]); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came, not %d; %v", len(got), len(sent), err)
			}
		}()
	}
	group.Wait()
	waitForNone(t)
}

// An end leaves the other direction open.
func TestHalfClosed(t *testing.T) {
	left, right := coupled(t)
	must(t, left.CloseWrite())
	if _, err := right.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("%v, not an end", err)
	}
	_, err := right.Write([]byte("late"))
	must(t, err)
	must(t, right.CloseWrite())
	got, err := io.ReadAll(left)
	must(t, err)
	if string(got) != "late" {
		t.Fatalf("%q came", got)
	}
	waitForNone(t)
}

// A reset becomes a reset.
func TestReset(t *testing.T) {
	left, right := coupled(t)
	_, err := left.Write([]byte("x"))
	must(t, err)
	_, err = io.ReadFull(right, make([]byte, 1))
	must(t, err)
	must(t, left.SetLinger(0))
	must(t, left.Close())
	if _, err := right.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v, not a reset", err)
	}
	waitForNone(t)
}

// A socket that cannot connect after all is a reset for the other side, and one that still
// connects gets what was sent meanwhile.
func TestConnecting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := &unix.SockaddrInet4{Port: listener.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	connecting := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		_ = unix.Connect(fd, address)
		return fd
	}
	left, fd := pair(t)
	_, err = left.Write([]byte("early"))
	must(t, err)
	must(t, Join(fd, connecting()))
	right, err := listener.Accept()
	must(t, err)
	must(t, right.SetDeadline(time.Now().Add(patience)))
	got := make([]byte, 5)
	if _, err := io.ReadFull(right, got); err != nil || string(got) != "early" {
		t.Fatalf("%q came; %v", got, err)
	}
	_ = right.Close()
	_ = left.Close()
	_ = listener.Close()
	left, fd = pair(t)
	must(t, Join(fd, connecting()))
	if _, err := left.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v, not a reset", err)
	}
	waitForNone(t)
}

// One that takes nothing does not keep others waiting.
func TestFair(t *testing.T) {
	stuck, _ := coupled(t)
	must(t, stuck.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	_, _ = stuck.Write(make([]byte, 64<<20))
	left, right := coupled(t)
	_, err := left.Write([]byte("go"))
	must(t, err)
	_, err = io.ReadFull(right, make([]byte, 2))
	must(t, err)
	must(t, stuck.SetLinger(0))
	_, _, _ = stuck.Close(), left.Close(), right.Close()
	waitForNone(t)
}
