package carry

import (
	"bytes"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// newTCPFixture is newFixture for an upstream that can send a reset.
func newTCPFixture(t *testing.T, halfClosed time.Duration) *fixture {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan int, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			accepted <- -1
			return
		}
		accepted <- detach(c)
	}()
	c, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fds := [2]int{detach(c), <-accepted}
	for _, fd := range fds {
		if fd < 0 {
			t.Fatal("no pair of connected sockets")
		}
	}
	return newFixtureOn(t, fds, halfClosed)
}

// detach returns a descriptor of a connection that Go knows nothing of.
func detach(c net.Conn) int {
	defer c.Close()
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return -1
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil || unix.SetNonblock(fd, true) != nil {
		return -1
	}
	return fd
}

// body is more than a new connection may send unacknowledged.
var body = bytes.Repeat([]byte("0123456789abcdef"), 40<<10/16)

// send sends the body from the upstream.
func (f *fixture) sendBody(t *testing.T) {
	t.Helper()
	if n, err := unix.Write(f.upstream, body); err != nil || n != len(body) {
		t.Fatalf("%d bytes were sent, %v", n, err)
	}
}

// resets closes the upstream with a reset.
func (f *fixture) resets(t *testing.T) {
	t.Helper()
	resetOnClose(f.upstream)
	// The cleanup closes this number once more.
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if err := unix.Dup3(null, f.upstream, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// waitForReset waits until the flow's kernel has the reset.
func (f *fixture) waitForReset(t *testing.T) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(f.flow.fd)}}
	if n, err := unix.Poll(fds, int(patience.Milliseconds())); n != 1 || err != nil {
		t.Fatalf("no reset has come, %v", err)
	}
}

// receive acknowledges what comes until the app has length bytes, and returns them;
// fin tells whether a FIN came with or right after them. It fails at a reset.
func (f *fixture) receive(t *testing.T, length int) (got []byte, fin bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(got) < length; {
		segment := f.SentNext()
		if segment == nil {
			if time.Now().After(deadline) {
				t.Fatalf("the app has %d bytes and gets no more", len(got))
			}
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if segment.Flags().Contains(header.TCPFlagRst) {
			t.Fatalf("the app was reset after %d of %d bytes", len(got), length)
		}
		got = append(got, segment.Payload()...)
		fin = fin || segment.Flags().Contains(header.TCPFlagFin)
		f.pump(header.TCPFlagAck, nil)
	}
	return got, fin
}

// awaitReset waits for the app's reset, before which neither data nor an end may come.
func (f *fixture) awaitReset(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		segment := f.Sent()
		switch {
		case segment == nil:
		case segment.Flags().Contains(header.TCPFlagRst):
			return
		case segment.Flags().Contains(header.TCPFlagFin):
			t.Fatal("what was cut off looks complete")
		}
	}
	t.Fatal("the app is not reset")
}

// A reset comes to the app after all that came before it, however slow the app is.
func TestResetAfterData(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.flow.Start()
	f.sendBody(t)
	f.resets(t)
	f.waitForReset(t)
	if got, _ := f.receive(t, len(body)); !bytes.Equal(got, body) {
		t.Error("the app got something else")
	}
	f.awaitReset(t)
	f.end(t, unix.ECONNRESET)
}

// A reset after the upstream's end, as a closed socket sends it for anything that comes
// later, takes nothing from the app, neither the data nor the end.
func TestResetAfterEnd(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.flow.Start()
	f.sendBody(t)
	_ = unix.Shutdown(f.upstream, unix.SHUT_WR)
	first := f.Await("data", header.TCPFlagAck)
	f.resets(t)
	f.waitForReset(t)
	time.Sleep(50 * time.Millisecond) // so that the flow has seen it
	got := append([]byte(nil), first.Payload()...)
	f.pump(header.TCPFlagAck, nil)
	rest, fin := f.receive(t, len(body)-len(got))
	if got = append(got, rest...); !bytes.Equal(got, body) {
		t.Error("the app got something else")
	}
	if !fin {
		f.Await("the FIN", header.TCPFlagFin)
		f.pump(header.TCPFlagAck, nil)
	}
	f.end(t, unix.EPIPE)
}

// An app that sends to an upstream that was reset still gets what the upstream had sent.
func TestDataAfterReset(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.sendBody(t)
	f.resets(t)
	f.waitForReset(t)
	f.pump(header.TCPFlagAck|header.TCPFlagPsh, []byte("more"))
	f.flow.Start() // with both marks: the write comes first, and fails
	if got, _ := f.receive(t, len(body)); !bytes.Equal(got, body) {
		t.Error("the app got something else")
	}
	f.awaitReset(t)
	f.end(t, unix.ECONNRESET)
}

// The app's own reset ends a flow at once that still has something for it.
func TestAppResetsMeanwhile(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.flow.Start()
	f.sendBody(t)
	f.resets(t)
	f.Await("data", header.TCPFlagAck)
	time.Sleep(50 * time.Millisecond)
	if len(f.ended) != 0 {
		t.Fatal("it ended though the app does not have everything")
	}
	f.pump(header.TCPFlagAck|header.TCPFlagRst, nil)
	f.end(t, unix.ECONNRESET)
}

// An app that has not taken anything for a while when the upstream fails has its time
// from then on.
func TestSweepRightAfterReset(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.flow.Start()
	f.sendBody(t)
	f.Await("data", header.TCPFlagAck)
	f.flow.active.Store(int64(clock() - 2*lostFor))
	f.resets(t)
	f.awaitSettling(t)
	f.loop.sweep()
	if len(f.ended) != 0 {
		t.Fatal("it ended at once")
	}
}

// An app that takes what is in the stack is waited for also while the socket still holds
// something, which the flow reads only when half of that is taken.
func TestSlowAppAfterReset(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.flow.Start()
	for full := 0; full < 20; time.Sleep(time.Millisecond) {
		if _, err := unix.Write(f.upstream, body); err != nil {
			full++
		}
	}
	f.resets(t)
	f.awaitSettling(t)
	if unread, err := unix.IoctlGetInt(f.flow.fd, unix.TIOCINQ); err != nil || unread == 0 {
		t.Fatal("nothing is left in the socket", err)
	}
	f.Await("data", header.TCPFlagAck)
	f.flow.active.Store(int64(clock() - 2*lostFor))
	f.pump(header.TCPFlagAck, nil)
	f.loop.sweep()
	if len(f.ended) != 0 {
		t.Fatal("it ended though the app has just taken something")
	}
}

// A reset that comes while nothing holds the flow up counts once the app does, though the loop
// told of it before: a step that has moved enough leaves the rest, and the error, to the next.
func TestResetBeforeTheAppIsFull(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.sendBody(t)
	f.resets(t)
	f.flow.step(markError)
	if f.flow.lost != 0 {
		t.Fatal("the error is read before the bytes that came first")
	}
	f.flow.downBlocked = true
	f.flow.step(0)
	if f.flow.lost != unix.ECONNRESET {
		t.Fatalf("lost is %d", f.flow.lost)
	}
}

// awaitSettling waits until the flow has seen the reset.
func (f *fixture) awaitSettling(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f.flow.settling.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the reset is not seen")
		}
	}
}

// An app that does not take what is left for it is waited for while it still takes
// something, and then for a few seconds.
func TestSweepAfterReset(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.flow.Start()
	f.sendBody(t)
	f.resets(t)
	f.Await("data", header.TCPFlagAck)
	f.pump(header.TCPFlagAck, nil)
	f.loop.sweep()
	if len(f.ended) != 0 {
		t.Fatal("it ended though the app has just taken something")
	}
	for deadline := time.Now().Add(patience); len(f.ended) == 0; time.Sleep(time.Millisecond) {
		f.flow.active.Store(int64(clock() - 2*lostFor))
		f.loop.sweep()
		if time.Now().After(deadline) {
			t.Fatal("it was not ended")
		}
	}
	f.end(t, unix.ECONNRESET)
	f.awaitReset(t)
}
