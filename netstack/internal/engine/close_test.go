package engine

import (
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/events"
)

// settled waits until there are no more goroutines and fds than before.
func settled(t *testing.T, goroutines, fds int) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("%d goroutines and %d fds are left", runtime.NumGoroutine(), openFDs(t))
		}
	}()
	eventually(t, fmt.Sprintf("%d goroutines and %d fds", goroutines, fds), func() bool {
		return runtime.NumGoroutine() <= goroutines && openFDs(t) <= fds
	})
}

// Close of an engine gives back every goroutine and fd.
func TestCloseGivesBack(t *testing.T) {
	newWorld(t, corners()[0]).close() // what the process makes once
	goroutines, fds := runtime.NumGoroutine(), openFDs(t)
	for _, v := range everyVariant() {
		newWorld(t, v).close()
	}
	settled(t, goroutines, fds)
}

// Close with flows that wait, are in their handshake, idle, in mid transfer and
// half-closed ends within two seconds; the app's connections are reset, the
// sockets closed, and nothing is left running.
func TestCloseInEveryState(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		goroutines, fds := runtime.NumGoroutine(), openFDs(t)
		w := newWorld(t, v)
		a := newApp(w)
		idle, busy, half := a.open(nil), a.open(nil), a.open(nil)
		transfers := make(chan error, 4)
		go func() { _, err := stream(busy.app, 1, 1<<30); transfers <- err }()
		go func() { _, err := stream(busy.up, 2, 1<<30); transfers <- err }()
		// The error of a reset is told once, to the writer or to the reader.
		go func() { _, _ = io.Copy(io.Discard, busy.app); transfers <- io.EOF }()
		go func() { _, _ = io.Copy(io.Discard, busy.up); transfers <- io.EOF }()
		must(t, half.app.CloseWrite())
		_, err := io.ReadAll(half.up)
		must(t, err)
		eventually(t, "the transfer to run", func() bool { s := w.stats(); return s.BytesUp > 1<<20 && s.BytesDown > 1<<20 })

		// From here on the app's machine is still; the rest is packets.
		p := newPlayer(w)
		p.sent = w.engine.link.PacketsIn.Load()
		before := len(w.events(events.TCPRequest))
		p.client(50001).syn()
		p.client(50002).syn()
		w.event(events.TCPRequest, before+2)
		opening := w.join(w.events(events.TCPRequest)[before].Flow, nil)

		started := time.Now()
		w.do(func(e *Engine) { e.Close() })
		if took := time.Since(started); took > patience {
			t.Errorf("Close took %s", took)
		}
		// Where the app has not taken in all that was sent, the reset is not the
		// next byte to it: it asks again (RFC 5961, section 3.2), and nobody is
		// left to answer.
		must(t, busy.app.SetDeadline(time.Now().Add(time.Second)))
		for range 4 {
			select {
			case err := <-transfers:
				if err == nil {
					t.Error("a transfer ended well")
				}
			case <-time.After(patience):
				t.Fatalf("a transfer hangs:\n%s", stacks())
			}
		}
		expectReset(t, idle.up)
		expectReset(t, idle.app)
		expectReset(t, opening)
		for _, c := range []io.Closer{idle.up, busy.up, half.up, opening, idle.app, busy.app, half.app} {
			_ = c.Close()
		}
		a.vanish()
		w.abandon()
		settled(t, goroutines, fds)
	})
}

// abandon ends the pump of an engine that was closed.
func (w *world) abandon() {
	w.post(runtime.Goexit)
	<-w.done
	for _, fd := range []int{w.near, w.far, w.wake} {
		_ = unix.Close(fd)
	}
}

// Close while the device is lent ends like any other.
func TestCloseWhileLent(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		goroutines, fds := runtime.NumGoroutine(), openFDs(t)
		w := newWorld(t, v)
		w.do(func(*Engine) { w.lend = true })
		a := newApp(w)
		j := a.open(nil)
		transfer := make(chan error, 2)
		go func() { _, err := stream(j.app, 1, 1<<30); transfer <- err }()
		go func() { _, err := io.Copy(io.Discard, j.up); transfer <- err }()
		eventually(t, "the transfer to run", func() bool { return w.stats().BytesUp > 1<<20 })
		started := time.Now()
		w.do(func(e *Engine) { e.Close() })
		if took := time.Since(started); took > patience {
			t.Errorf("Close took %s", took)
		}
		for range 2 {
			<-transfer
		}
		_ = j.app.Close()
		_ = j.up.Close()
		a.vanish()
		w.abandon()
		settled(t, goroutines, fds)
	})
}

// Close right after a join leaves nothing behind either.
func TestCloseRightAfterJoin(t *testing.T) {
	goroutines, fds := runtime.NumGoroutine(), openFDs(t)
	for range 20 {
		w := newWorld(t, families()[0])
		p := newPlayer(w)
		for i := range uint16(8) {
			p.client(50000 + i).syn()
		}
		w.event(events.TCPRequest, 8)
		ups := make([]upstream, 8)
		for i := range ups {
			ups[i] = newUpstream(t)
		}
		w.do(func(e *Engine) {
			for i, request := range w.events(events.TCPRequest) {
				must(t, e.Join(request.Flow, ups[i].fd, nil, 0))
			}
			started := time.Now()
			e.Close()
			if took := time.Since(started); took > patience {
				t.Errorf("Close took %s", took)
			}
		})
		for _, u := range ups {
			_ = u.conn.Close()
		}
		w.abandon()
		if t.Failed() {
			return
		}
	}
	settled(t, goroutines, fds)
}

// Quiesce takes no new flow, and resets joined ones once they are idle.
func TestQuiesce(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		a := newApp(w)
		j := a.open(nil)
		_, err := j.app.Write([]byte("hello"))
		must(t, err)
		readExactly(t, j.up, []byte("hello"))
		left := -1
		eventually(t, "the flow to be idle", func() bool {
			w.do(func(e *Engine) { left = e.Quiesce() })
			return left == 0
		})
		expectReset(t, j.up)
		expectReset(t, j.app)
		if e := w.closed(j.flow); e.Error == 0 {
			t.Error("closed without an error")
		}
		p := newPlayer(w)
		p.sent = w.engine.link.PacketsIn.Load()
		before := len(w.events(events.TCPRequest))
		p.client(50001).syn()
		p.settle()
		if n := len(w.events(events.TCPRequest)); n != before {
			t.Error("a new request")
		}
	})
}
