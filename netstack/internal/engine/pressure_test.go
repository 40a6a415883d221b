package engine

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/smalltcp"
)

// fill writes until nothing more is taken and full says that it is the engine
// that holds it up; it returns how many bytes were taken.
func fill(t *testing.T, conn net.Conn, full func() bool) (written int) {
	t.Helper()
	defer func() { must(t, conn.SetDeadline(time.Now().Add(4*patience))) }()
	for deadline := time.Now().Add(patience); ; {
		must(t, conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
		n, err := conn.Write(pattern(written, 64<<10))
		written += n
		switch {
		case err != nil && full():
			return written
		case err != nil && time.Now().After(deadline):
			t.Fatalf("%d bytes were taken, and the engine is not full", written)
		case written > 256<<20:
			t.Fatal("it takes without end")
		}
	}
}

// upWaits is the most bytes of an app that wait in a flow's endpoint.
func (w *world) upWaits() (most int) {
	w.t.Helper()
	w.do(func(e *Engine) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, f := range e.joined {
			switch app := f.Endpoint.(type) {
			case *direct.App:
				n, _ := app.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
				most = max(most, n)
			case *smalltcp.Conn:
				most = max(most, app.Unread())
			}
		}
	})
	return most
}

// upFull and downFull tell whether a flow is held up by the engine. What it took
// from the upstream and the app has not read waits in the endpoint, but for what
// fits into the app's own buffer.
func (w *world) upFull() bool   { return w.upWaits() > receiveBuffer/4 }
func (w *world) downFull() bool { return w.stats().BytesDown > appBuffer/2+carry.SendBuffer/2 }

// pattern is size bytes that tell their place in the stream.
func pattern(from, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		at := from + i
		p[i] = byte(at ^ at>>8 ^ at>>16)
	}
	return p
}

func readPattern(r io.Reader, size int) error {
	block := make([]byte, 64<<10)
	for at := 0; at < size; {
		n, err := r.Read(block[:min(len(block), size-at)])
		if string(block[:n]) != string(pattern(at, n)) {
			return fmt.Errorf("wrong bytes after %d", at)
		}
		at += n
		if err != nil {
			return fmt.Errorf("%w after %d bytes of %d", err, at, size)
		}
	}
	return nil
}

// An upstream that does not read bounds what the engine takes from the app, and
// all of it arrives once it reads.
func TestUpstreamDoesNotRead(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		j := a.open(nil)
		written := fill(t, j.app, a.upFull)
		if n := a.upWaits(); n > 2*receiveBuffer {
			t.Errorf("%d bytes wait in the engine", n)
		}
		must(t, readPattern(j.up, written))
	})
}

// An app that does not read bounds what the engine reads from the upstream, and
// all of it arrives once it reads.
func TestAppDoesNotRead(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		j := a.open(nil)
		written := fill(t, j.up, a.downFull)
		if n := a.stats().BytesDown; n > appBuffer+carry.SendBuffer+(64<<10) {
			t.Errorf("%d bytes were read from the upstream", n)
		}
		must(t, readPattern(j.app, written))
	})
}

// A slow reader on one side of one flow does not slow another flow.
func TestOneFlowDoesNotHoldAnother(t *testing.T) {
	a := newApp(newWorld(t, corners()[0]))
	slow, quick := a.open(nil), a.open(nil)
	fill(t, slow.app, a.upFull)
	fill(t, slow.up, a.downFull)
	exchange(t, quick.app, quick.up, 1<<20, 1<<20)
}

// No wake-up is lost: many small exchanges, started from both ends of many
// flows at once, all come to their end.
func TestPingPong(t *testing.T) {
	flows, exchanges := 50, 150
	if testing.Short() {
		exchanges = 40
	}
	play := func(t *testing.T, v variant, lend bool) {
		w := newWorld(t, v)
		w.do(func(*Engine) { w.lend = lend })
		a := newApp(w)
		var all []joined
		for range flows {
			all = append(all, a.open(nil))
		}
		var wait sync.WaitGroup
		failures := make(chan error, 4*flows)
		// Each end sends bytes and waits for as many: its own pace, both ways at
		// once, so that each byte is waited for on its own.
		converse := func(conn net.Conn, size int) {
			defer wait.Done()
			out, in := make([]byte, size), make([]byte, size)
			for i := range exchanges {
				out[0] = byte(i)
				if _, err := conn.Write(out); err != nil {
					failures <- fmt.Errorf("write %d: %w", i, err)
					return
				}
				if _, err := io.ReadFull(conn, in); err != nil {
					failures <- fmt.Errorf("read %d: %w", i, err)
					return
				}
				if in[0] != byte(i) {
					failures <- fmt.Errorf("exchange %d brought %d", i, in[0])
					return
				}
			}
		}
		for i, j := range all {
			wait.Add(2)
			size := 1 + i*7
			must(t, j.app.SetDeadline(time.Now().Add(2*patience)))
			go converse(j.app, size)
			go converse(j.up, size)
		}
		wait.Wait()
		close(failures)
		for err := range failures {
			t.Error(err)
		}
		for _, j := range all {
			must(t, j.app.CloseWrite())
			must(t, j.up.CloseWrite())
		}
		for _, j := range all {
			if e := w.closed(j.flow); e.Error != 0 {
				t.Errorf("flow %d closed with %d", j.flow, e.Error)
			}
		}
	}
	forEach(t, corners(), func(t *testing.T, v variant) {
		t.Run("pumped", func(t *testing.T) { play(t, v, false) })
		t.Run("lent", func(t *testing.T) { play(t, v, true) })
	})
}

// A burst that fills the socket over and over, read in dribs by the upstream,
// loses no byte and no wake-up.
func TestStopAndGo(t *testing.T) {
	const size = 2 << 20
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		j := a.open(nil)
		done := make(chan error, 2)
		go func() { done <- readPattern(slow{j.up}, size) }()
		go func() { done <- readPattern(slow{j.app}, size) }()
		go func() { _, _ = j.app.Write(pattern(0, size)) }()
		go func() { _, _ = j.up.Write(pattern(0, size)) }()
		for range 2 {
			must(t, <-done)
		}
	})
}

// slow reads little at a time.
type slow struct{ net.Conn }

func (s slow) Read(p []byte) (int, error) { return s.Conn.Read(p[:min(len(p), 3000)]) }
