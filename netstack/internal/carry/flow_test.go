package carry

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/enginetest"
)

const patience = time.Minute

// fixture is a flow with both of its peers in the test's hands.
type fixture struct {
	*enginetest.Peer
	flow     *Flow
	loop     *Loop
	upstream int // the other end of the flow's socket
	ended    chan unix.Errno
}

func newFixture(t *testing.T, halfClosed time.Duration) *fixture {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return newFixtureOn(t, fds, halfClosed)
}

// newFixtureOn is newFixture for a flow over fds[0], whose other end is fds[1].
func newFixtureOn(t *testing.T, fds [2]int, halfClosed time.Duration) *fixture {
	t.Helper()
	f := &fixture{upstream: fds[1], ended: make(chan unix.Errno, 2)}
	var err error
	if f.loop, err = NewLoop(halfClosed); err != nil {
		t.Fatal(err)
	}
	f.flow = NewFlow(1, fds[0], nil, f.loop, func(_ *Flow, errno unix.Errno) { f.ended <- errno })
	f.Peer = enginetest.Establish(t, &f.flow.Queue)
	f.flow.Endpoint = &direct.App{Endpoint: f.Endpoint, Queue: &f.flow.Queue}
	t.Cleanup(func() {
		f.flow.Abort()
		f.loop.Close()
		_ = unix.Close(fds[1])
		if len(f.ended) > 1 {
			t.Error("the flow ended twice")
		}
	})
	return f
}

// pump gives a segment to the flow, as the engine does.
func (f *fixture) pump(flags header.TCPFlags, payload []byte) {
	f.flow.BeginPump()
	direct.Begin(f.Endpoint)
	f.Send(flags, payload)
	direct.Finish(f.Endpoint, &f.flow.Queue)
	f.flow.EndPump()
}

// end waits for the flow's end.
func (f *fixture) end(t *testing.T, want unix.Errno) {
	t.Helper()
	select {
	case errno := <-f.ended:
		if errno != want {
			t.Errorf("it ended with %v, not %v", errno, want)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

// upBytes is what can be read on the upstream's side now.
func (f *fixture) upBytes() string {
	b := make([]byte, 100)
	n, _, err := unix.Recvfrom(f.upstream, b, unix.MSG_DONTWAIT)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// What a packet brings is with the upstream when EndPump returns: in the pump's
// thread, without a loop.
func TestUpInThePumpsThread(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	for _, s := range []string{"a", "bc", "def"} {
		f.pump(header.TCPFlagAck|header.TCPFlagPsh, []byte(s))
		if got := f.upBytes(); got != s {
			t.Errorf("the upstream got %q, not %q", got, s)
		}
	}
	if up, down := f.flow.Bytes(); up != 6 || down != 0 {
		t.Errorf("%d up, %d down", up, down)
	}
}

// What the upstream sends comes out as a segment.
func TestDown(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	if _, err := unix.Write(f.upstream, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != "hello" {
		t.Errorf("the app got %q", got.Payload())
	}
}

// The loop looks when a flow's time may be over, not when another round is due: an app
// that takes nothing of what a lost upstream left is told within that time.
func TestSweepComesInTime(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	for _, idle := range []time.Duration{time.Hour, time.Minute, 2 * time.Hour} {
		f.loop.limit(f.flow, idle)
	}
	if early := time.Duration(f.loop.sweepAt.Load()) - clock(); early > time.Minute {
		t.Errorf("the next look is in %v", early)
	}
	f.flow.active.Store(int64(clock()))
	f.loop.sweep()
	if after := time.Duration(f.loop.sweepAt.Load()) - clock(); after <= time.Minute || after > 2*time.Hour {
		t.Errorf("after a look the next one is in %v", after)
	}
	f.flow.active.Store(int64(clock() - 2*time.Hour))
	f.loop.limit(f.flow, time.Millisecond)
	f.end(t, unix.ETIMEDOUT) // by the loop itself
}

// A half-closed flow that was idle for too long is ended by the sweep; one that
// is not half-closed, or has not been idle for so long, is not.
func TestSweep(t *testing.T) {
	for _, upFirst := range []bool{true, false} {
		f := newFixture(t, 50*time.Millisecond)
		f.flow.Start()
		old := func() { f.flow.active.Store(int64(clock() - time.Minute)) }
		old()
		f.loop.sweep()
		if len(f.ended) != 0 {
			t.Fatal("a flow with both directions open was ended")
		}
		if upFirst {
			f.pump(header.TCPFlagAck|header.TCPFlagFin, nil)
		} else {
			_ = unix.Shutdown(f.upstream, unix.SHUT_WR)
			f.Await("the FIN", header.TCPFlagFin)
		}
		f.flow.active.Store(int64(clock() + time.Hour))
		f.loop.sweep()
		if len(f.ended) != 0 {
			t.Fatal("a flow that was not idle was ended")
		}
		for deadline := time.Now().Add(patience); len(f.ended) == 0; time.Sleep(time.Millisecond) {
			old()
			f.loop.sweep()
			if time.Now().After(deadline) {
				t.Fatal("an idle half was not ended")
			}
		}
		switch errno := <-f.ended; errno {
		case unix.ECONNABORTED, unix.ETIMEDOUT:
		default:
			t.Errorf("it ended with %v", errno)
		}
	}
}

// Both ends closed: the flow ends without an error, and Abort afterwards is
// nothing.
func TestEndInOrder(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	f.pump(header.TCPFlagAck|header.TCPFlagFin, []byte("bye"))
	if got := f.upBytes(); got != "bye" {
		t.Errorf("the upstream got %q", got)
	}
	_ = unix.Shutdown(f.upstream, unix.SHUT_WR)
	f.end(t, 0)
	f.flow.Abort()
}

// A reset ends the flow before EndPump returns.
func TestResetInThePumpsThread(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	f.pump(header.TCPFlagAck|header.TCPFlagRst, nil)
	if len(f.ended) == 0 {
		t.Error("not ended")
	}
	f.end(t, unix.ECONNRESET)
}

// A flow that the pump ends before it was started is not watched by its loop,
// which could otherwise never end.
func TestResetBeforeStart(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.pump(header.TCPFlagAck, []byte("x"))
	f.flow.Abort()
	f.flow.Start()
	f.end(t, unix.ECONNABORTED)
	f.loop.mu.Lock()
	defer f.loop.mu.Unlock()
	if n := len(f.loop.flows); n != 0 {
		clear(f.loop.flows) // so that the test can end
		t.Errorf("%d dead flows are watched", n)
	}
}

// Abort from many goroutines ends a flow once.
func TestAbortOnce(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	for range 8 {
		go f.flow.Abort()
	}
	f.end(t, unix.ECONNABORTED)
}

// A socket that cannot be watched ends the flow.
func TestNotWatchable(t *testing.T) {
	f := newFixture(t, time.Hour)
	_ = unix.Close(f.flow.fd)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.flow.fd = null // epoll refuses it
	f.flow.Start()
	f.end(t, unix.ECONNABORTED)
}

// A service that closes its end of a socket pair ends the flow, though the app has
// not: the app gets what was under way and a FIN, and then the fd is closed.
func TestServiceCloses(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	if _, err := unix.Write(f.upstream, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	_ = unix.Shutdown(f.upstream, unix.SHUT_RDWR)
	if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != "bye" {
		t.Errorf("the app got %q", got.Payload())
	}
	f.Await("FIN", header.TCPFlagFin)
	if len(f.ended) != 0 {
		t.Error("it ended before the app had everything")
	}
	f.pump(header.TCPFlagAck, nil)
	f.end(t, 0)
}

// A service that has closed its end is not kept by an app that takes nothing and says
// nothing.
func TestServiceClosesOnASilentApp(t *testing.T) {
	f := newFixture(t, time.Hour)
	if err := unix.SetNonblock(f.upstream, true); err != nil {
		t.Fatal(err)
	}
	f.flow.Start()
	for full := 0; full < 20; time.Sleep(time.Millisecond) {
		if _, err := unix.Write(f.upstream, body); err != nil {
			full++
		}
	}
	f.resets(t)
	for deadline := time.Now().Add(patience); len(f.ended) == 0; time.Sleep(time.Millisecond) {
		f.flow.active.Store(int64(clock() - 2*time.Hour))
		f.loop.sweep()
		if time.Now().After(deadline) {
			t.Fatal("it was not ended")
		}
	}
	f.end(t, unix.ETIMEDOUT)
}
