package direct_test

import (
	"bytes"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/enginetest"
)

// These tests fail when gVisor changes what the names mean that direct.go links
// to. The stack's processors are paused, so that whatever happens to a segment
// happens in the calling goroutine, between Begin and Finish.

type fixture struct {
	*enginetest.Peer
	queue waiter.Queue
	t     *testing.T
}

func establish(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.Peer = enginetest.Establish(t, &f.queue)
	f.Stack.Pause()
	t.Cleanup(f.Stack.Resume)
	return f
}

// handle gives a segment to the endpoint, as the engine's pump does.
func (f *fixture) handle(flags header.TCPFlags, payload []byte) {
	direct.Begin(f.Endpoint)
	f.Send(flags, payload)
	direct.Finish(f.Endpoint, &f.queue)
}

func (f *fixture) read() (string, tcpip.Error) {
	var b bytes.Buffer
	_, err := f.Endpoint.Read(&b, tcpip.ReadOptions{})
	return b.String(), err
}

func (f *fixture) state(want tcp.EndpointState) {
	f.t.Helper()
	if got := f.Endpoint.EndpointState(); got != want {
		f.t.Fatalf("the state is %s, not %s", got, want)
	}
}

// watch counts notifications.
func (f *fixture) watch() <-chan struct{} {
	entry, channel := waiter.NewChannelEntry(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents)
	f.queue.EventRegister(&entry)
	f.t.Cleanup(func() { f.queue.EventUnregister(&entry) })
	return channel
}

func notified(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// Without Begin and Finish a paused stack handles nothing: the fixture shows
// what it is meant to show.
func TestProcessorsArePaused(t *testing.T) {
	f := establish(t)
	f.Send(header.TCPFlagAck, []byte("x"))
	if got, err := f.read(); got != "" {
		t.Errorf("read %q, %v", got, err)
	}
}

// Data is readable, acknowledged and notified of when Finish returns.
func TestData(t *testing.T) {
	f := establish(t)
	channel := f.watch()
	for _, payload := range []string{"first", "second"} {
		f.handle(header.TCPFlagAck|header.TCPFlagPsh, []byte(payload))
		if got, err := f.read(); got != payload {
			t.Errorf("read %q, %v", got, err)
		}
		if !notified(channel) {
			t.Error("nobody was notified")
		}
	}
	if segment := f.Sent(); segment == nil || !segment.Flags().Contains(header.TCPFlagAck) {
		t.Error("nothing was acknowledged")
	}
	f.state(tcp.StateEstablished)
}

// Several segments between Begin and Finish are all handled, in order.
func TestSeveralSegments(t *testing.T) {
	f := establish(t)
	direct.Begin(f.Endpoint)
	for _, payload := range []string{"one ", "two ", "three"} {
		f.Send(header.TCPFlagAck, []byte(payload))
	}
	direct.Finish(f.Endpoint, &f.queue)
	if got, err := f.read(); got != "one two three" {
		t.Errorf("read %q, %v", got, err)
	}
}

// Finish without a segment changes nothing.
func TestNoSegment(t *testing.T) {
	f := establish(t)
	direct.Begin(f.Endpoint)
	direct.Finish(f.Endpoint, &f.queue)
	f.state(tcp.StateEstablished)
	if segment := f.Sent(); segment != nil {
		t.Errorf("%s was sent", segment.Flags())
	}
}

// A FIN behind data: the data, then the end.
func TestFIN(t *testing.T) {
	f := establish(t)
	f.handle(header.TCPFlagAck|header.TCPFlagFin, []byte("bye"))
	f.state(tcp.StateCloseWait)
	if got, err := f.read(); got != "bye" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := f.read(); !is[*tcpip.ErrClosedForReceive](err) {
		t.Errorf("the end is %v", err)
	}
}

func is[T tcpip.Error](err tcpip.Error) bool {
	_, ok := err.(T)
	return ok
}

// A reset is an error to the reader, is notified of, and is not answered.
func TestRST(t *testing.T) {
	f := establish(t)
	channel := f.watch()
	f.handle(header.TCPFlagAck|header.TCPFlagRst, nil)
	f.state(tcp.StateError)
	if _, err := f.read(); !is[*tcpip.ErrConnectionReset](err) {
		t.Errorf("the read says %v", err)
	}
	if !notified(channel) {
		t.Error("nobody was notified")
	}
	if segment := f.Sent(); segment != nil {
		t.Errorf("a reset was answered with %s", segment.Flags())
	}
}

// A reset after the app's FIN leads to CLOSED and is notified of.
func TestRSTAfterFIN(t *testing.T) {
	f := establish(t)
	f.handle(header.TCPFlagAck|header.TCPFlagFin, nil)
	channel := f.watch()
	f.handle(header.TCPFlagAck|header.TCPFlagRst, nil)
	f.state(tcp.StateClose)
	if !notified(channel) {
		t.Error("nobody was notified")
	}
}

// Closing first leads through FIN-WAIT to TIME-WAIT, which ends on its timer.
func TestTimeWait(t *testing.T) {
	f := establish(t)
	f.Endpoint.Shutdown(tcpip.ShutdownWrite)
	f.state(tcp.StateFinWait1)
	f.Await("the FIN", header.TCPFlagFin)
	f.handle(header.TCPFlagAck, nil)
	f.state(tcp.StateFinWait2)
	f.handle(header.TCPFlagAck|header.TCPFlagFin, nil)
	f.state(tcp.StateTimeWait)
	for deadline := time.Now().Add(time.Minute); f.Endpoint.EndpointState() != tcp.StateClose; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("TIME-WAIT does not end")
		}
	}
	f.handle(header.TCPFlagAck, nil) // and what comes later does no harm
	f.state(tcp.StateClose)
}

// Closing last leads through LAST-ACK to CLOSED.
func TestLastAck(t *testing.T) {
	f := establish(t)
	f.handle(header.TCPFlagAck|header.TCPFlagFin, nil)
	f.Endpoint.Shutdown(tcpip.ShutdownWrite)
	f.state(tcp.StateLastAck)
	f.Await("the FIN", header.TCPFlagFin)
	channel := f.watch()
	f.handle(header.TCPFlagAck, nil)
	f.state(tcp.StateClose)
	if !notified(channel) {
		t.Error("nobody was notified")
	}
}

// Closing at the same time leads through CLOSING to TIME-WAIT.
func TestSimultaneousClose(t *testing.T) {
	f := establish(t)
	f.Endpoint.Shutdown(tcpip.ShutdownWrite)
	f.handle(header.TCPFlagAck|header.TCPFlagFin, nil) // does not acknowledge the FIN
	f.state(tcp.StateClosing)
	for segment := f.Sent(); segment != nil; segment = f.Sent() {
	}
	f.handle(header.TCPFlagAck, nil)
	if s := f.Endpoint.EndpointState(); s != tcp.StateTimeWait && s != tcp.StateClose {
		t.Fatalf("the state is %s", s)
	}
}

// An acknowledgement makes room for the writer and says so.
func TestACKMakesRoom(t *testing.T) {
	f := establish(t)
	total := 0
	for {
		n, err := f.Endpoint.Write(bytes.NewReader(make([]byte, 32<<10)), tcpip.WriteOptions{})
		total += int(n)
		if err != nil {
			break
		}
		if total > 64<<20 {
			t.Fatal("it takes without end")
		}
	}
	entry, channel := waiter.NewChannelEntry(waiter.WritableEvents)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)
	for deadline := time.Now().Add(time.Minute); !notified(channel); {
		if time.Now().After(deadline) {
			t.Fatal("nobody was told of the room")
		}
		for segment := f.Sent(); segment != nil; segment = f.Sent() {
		}
		f.handle(header.TCPFlagAck, nil)
	}
}

// What was written counts until it is acknowledged, and so does a FIN; an endpoint that
// was reset has nothing left to send.
func TestUnacknowledged(t *testing.T) {
	f := establish(t)
	expect := func(want int) {
		t.Helper()
		if got := direct.Unacknowledged(f.Endpoint); got != want {
			t.Errorf("%d bytes are not acknowledged, not %d", got, want)
		}
	}
	expect(0)
	const size = 32 << 10 // more than may be on its way at once
	if n, err := f.Endpoint.Write(bytes.NewReader(make([]byte, size)), tcpip.WriteOptions{}); n != size {
		t.Fatal(n, err)
	}
	expect(size)
	got := len(f.Await("data", header.TCPFlagAck).Payload())
	f.handle(header.TCPFlagAck, nil)
	expect(size - got)
	for got < size {
		got += len(f.Await("data", header.TCPFlagAck).Payload())
		f.handle(header.TCPFlagAck, nil)
	}
	expect(0)
	f.Endpoint.Shutdown(tcpip.ShutdownWrite)
	expect(1)
	f.Await("the FIN", header.TCPFlagFin)
	f.handle(header.TCPFlagAck, nil)
	expect(0)
	f.handle(header.TCPFlagAck|header.TCPFlagRst, nil)
	expect(0)
}
