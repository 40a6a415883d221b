package engine

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// joined is an app's connection that was joined to an upstream.
type joined struct {
	flow uint64
	app  *gonet.TCPConn
	up   *net.TCPConn
}

// open dials from the app and joins the flow, leftover first.
func (a *app) open(leftover []byte) joined {
	a.t.Helper()
	return a.openBy(443, func(flow uint64) *net.TCPConn { return a.join(flow, leftover) })
}

// openBy dials from the app and has join join the flow.
func (a *app) openBy(port uint16, join func(flow uint64) *net.TCPConn) joined {
	a.t.Helper()
	n := len(a.events(events.TCPRequest))
	type dialled struct {
		conn *gonet.TCPConn
		err  error
	}
	result := make(chan dialled, 1)
	go func() {
		conn, err := a.dial(port)
		result <- dialled{conn, err}
	}()
	flow := a.event(events.TCPRequest, n+1).Flow
	up := join(flow)
	d := <-result
	must(a.t, d.err)
	a.t.Cleanup(func() { _ = d.conn.Close() })
	return joined{flow, d.conn, up}
}

// wasReset tells whether the error is a connection reset, on either side.
func wasReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || err != nil && strings.Contains(err.Error(), "reset by peer")
}

// Bytes go both ways whole, in writes of any size, each half is closed on its
// own, and the Closed event then gives the counts and no error.
func TestBytesBothWays(t *testing.T) {
	const up, down = 3 << 20, 4<<20 + 12345
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		j := a.open(nil)
		exchange(t, j.app, j.up, up, down)
		if e := a.closed(j.flow); e.Error != 0 || e.BytesUp != up || e.BytesDown != down {
			t.Errorf("closed with %d, %d up, %d down", e.Error, e.BytesUp, e.BytesDown)
		}
		if s := a.stats(); s.Flows != 0 || s.FlowsTotal != 1 || s.BytesUp != up || s.BytesDown != down || s.DropWrite != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// The app's socket connects only when the flow is joined, and the leftover
// comes before what the upstream sends.
func TestLeftoverFirst(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		for _, size := range []int{1, 1000, 300 << 10, 3 << 20} {
			a := newApp(newWorld(t, v))
			leftover := bytes.Repeat([]byte("left over "), size/10+1)
			j := a.open(leftover)
			_, err := j.up.Write([]byte("and then this"))
			must(t, err)
			readExactly(t, j.app, append(leftover, "and then this"...))
			must(t, j.app.CloseWrite())
			must(t, j.up.Close())
			if e := a.closed(j.flow); e.Error != 0 || e.BytesDown != uint64(len(leftover)+13) {
				t.Errorf("%d bytes of leftover: closed with %d, %d down", size, e.Error, e.BytesDown)
			}
		}
	})
}

// A server that speaks first is heard, also when it spoke before the join.
func TestServerSpeaksFirst(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		result := make(chan *gonet.TCPConn, 1)
		go func() {
			conn, _ := a.dial(25)
			result <- conn
		}()
		flow := a.event(events.TCPRequest, 1).Flow
		u := newUpstream(t)
		_, err := u.conn.Write([]byte("220 hello\r\n"))
		must(t, err)
		a.do(func(e *Engine) { must(t, e.Join(flow, u.fd, nil, 0)) })
		conn := <-result
		defer conn.Close()
		readExactly(t, conn, []byte("220 hello\r\n"))
		_, err = u.conn.Write([]byte("more"))
		must(t, err)
		readExactly(t, conn, []byte("more"))
	})
}

// After the app's FIN the upstream sees the end and may still send megabytes,
// and the other way round.
func TestHalfClose(t *testing.T) {
	const size = 2 << 20
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		for _, appFirst := range []bool{true, false} {
			j := a.open(nil)
			var first, second halfCloser = j.app, j.up
			if !appFirst {
				first, second = j.up, j.app
			}
			_, err := first.Write([]byte("last words"))
			must(t, err)
			must(t, first.CloseWrite())
			got, err := io.ReadAll(second)
			if err != nil || string(got) != "last words" {
				t.Fatalf("app first %t: %q, %v", appFirst, got, err)
			}
			exchange(t, first, halfOpen{second}, 0, size)
			e := a.closed(j.flow)
			up, down := e.BytesUp, e.BytesDown
			if !appFirst {
				up, down = down, up
			}
			if e.Error != 0 || up != 10 || down != size {
				t.Errorf("app first %t: %+v", appFirst, e)
			}
		}
	})
}

// halfOpen is a connection that was read to its end.
type halfOpen struct{ halfCloser }

func (halfOpen) Read([]byte) (int, error) { return 0, io.EOF }

// Write and CloseWrite go through; exchange's writer of nothing closes again,
// which a socket minds.
func (h halfOpen) CloseWrite() error { return h.halfCloser.CloseWrite() }

// The upstream's socket is closed when the flow has ended.
func TestSocketIsClosed(t *testing.T) {
	a := newApp(newWorld(t, corners()[0]))
	before := openFDs(t)
	for range 20 {
		j := a.open(nil)
		exchange(t, j.app, j.up, 1000, 1000)
		a.closed(j.flow)
		must(t, j.up.Close())
	}
	if after := openFDs(t); after > before {
		t.Errorf("%d fds, before %d", after, before)
	}
}

// An app that resets is a reset for the upstream, and a Closed event says so.
func TestAppResets(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		j := c.connect(1)
		c.transmit(header.TCPFlagAck, []byte("hello"))
		readExactly(t, j.up, []byte("hello"))
		c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
		expectReset(t, j.up)
		if e := p.closed(j.flow); e.Error != int32(unix.ECONNRESET) || e.BytesUp != 5 {
			t.Errorf("closed with %+v", e)
		}
	})
}

// connect joins a flow for the hand-played client; n counts the requests.
func (c *client) connect(n int) joined {
	c.t.Helper()
	c.syn()
	flow := c.event(events.TCPRequest, n).Flow
	up := c.join(flow, nil)
	c.answerSYNACK()
	eventually(c.t, "the flow to be established", func() bool { return c.stats().FlowsTotal >= uint64(n) })
	return joined{flow: flow, up: up}
}

// expectReset reads up to an error, which must be a reset.
func expectReset(t *testing.T, conn io.Reader) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); !wasReset(err) {
		t.Errorf("the read ends with %v, not with a reset", err)
	}
}

// An app that resets after its FIN is a reset for the upstream.
func TestAppResetsAfterItsFIN(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		for _, together := range []bool{false, true} {
			p := newPlayer(newWorld(t, v))
			c := p.client(40001)
			j := c.connect(1)
			if together { // both in one turn of the pump
				p.do(func(*Engine) {
					c.transmit(header.TCPFlagFin|header.TCPFlagAck, nil)
					c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
				})
			} else {
				c.transmit(header.TCPFlagFin|header.TCPFlagAck, nil)
				if n, err := j.up.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Fatalf("after the FIN: %d, %v", n, err)
				}
				c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
			}
			if e := p.closed(j.flow); e.Error != int32(unix.ECONNRESET) {
				t.Errorf("closed with %d", e.Error)
			}
		}
	})
}

// An app that resets while the upstream does not read ends the flow at once.
func TestAppResetsAgainstAFullUpstream(t *testing.T) {
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		c := p.client(40001)
		j := c.connect(1)
		c.flood()
		c.transmit(header.TCPFlagRst|header.TCPFlagAck, nil)
		if e := p.closed(j.flow); e.Error != int32(unix.ECONNRESET) {
			t.Errorf("closed with %d", e.Error)
		}
	})
}

// flood sends until the engine's window is closed, because the upstream does
// not read, and goes back to what was acknowledged.
func (c *client) flood() {
	c.t.Helper()
	block := bytes.Repeat([]byte("flood "), 220)
	acked, edge := c.seq, c.seq+uint32(len(block))
	for {
		for int32(edge-c.seq) >= int32(len(block)) {
			c.transmit(header.TCPFlagAck, block)
		}
		r := c.mine("an acknowledgement", hasFlag(header.TCPFlagAck))
		acked, edge = r.AckNumber(), r.AckNumber()+uint32(r.WindowSize())<<c.scale
		if c.seq == acked && int32(edge-c.seq) < int32(len(block)) {
			return
		}
	}
}

// An upstream that resets is a reset for the app, also when one direction has
// ended before.
func TestUpstreamResets(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		for _, before := range []string{"nothing", "app's FIN", "upstream's FIN"} {
			t.Run(before, func(t *testing.T) {
				a := newApp(newWorld(t, v))
				j := a.open(nil)
				switch before {
				case "app's FIN":
					must(t, j.app.CloseWrite())
					if _, err := io.ReadAll(j.up); err != nil {
						t.Fatal(err)
					}
				case "upstream's FIN":
					must(t, j.up.CloseWrite())
					if _, err := io.ReadAll(j.app); err != nil {
						t.Fatal(err)
					}
				}
				must(t, j.up.SetLinger(0))
				must(t, j.up.Close())
				if before == "upstream's FIN" { // the app has read to the end: writing tells
					eventually(t, "the app to see the reset", func() bool {
						_, err := j.app.Write([]byte("x"))
						return err != nil
					})
				} else {
					expectReset(t, j.app)
				}
				if e := a.closed(j.flow); e.Error != int32(unix.ECONNRESET) && e.Error != int32(unix.EPIPE) {
					t.Errorf("closed with %d", e.Error)
				}
			})
		}
	})
}

// An upstream that resets while the app does not read is a reset after a few seconds.
func TestUpstreamResetsAgainstAFullApp(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		t.Parallel()
		a := newApp(newWorld(t, v))
		j := a.open(nil)
		fill(t, j.up, a.downFull)
		must(t, j.up.SetLinger(0))
		must(t, j.up.Close())
		if e := a.closed(j.flow); e.Error != int32(unix.ECONNRESET) {
			t.Errorf("closed with %d", e.Error)
		}
		expectReset(t, j.app)
	})
}

// An app that is gone when the flow is joined leaves nothing behind: the socket
// is closed and a Closed event says that it was in vain.
func TestAppGoneBeforeTheJoin(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		before := openFDs(t)
		c := p.client(40001)
		c.syn()
		flow := p.event(events.TCPRequest, 1).Flow
		up := p.join(flow, []byte("leftover"))
		synAck := c.mine("a SYN-ACK", hasFlag(header.TCPFlagSyn))
		c.seq = synAck.AckNumber() // as a host that knows nothing of it
		c.transmit(header.TCPFlagRst, nil)
		if e := p.closed(flow); e.Error == 0 || e.BytesUp != 0 || e.BytesDown != 0 {
			t.Errorf("closed with %+v", e)
		}
		expectReset(t, up)
		must(t, up.Close())
		if after := openFDs(t); after > before {
			t.Errorf("%d fds, before %d", after, before)
		}
		if s := p.stats(); s.Flows != 0 || s.FlowsTotal != 0 || s.Pending != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}
