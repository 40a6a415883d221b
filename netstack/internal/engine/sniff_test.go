package engine

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/sniff"
	"nanotun/netstack/internal/snifftest"
)

// waitLong has apps wait long for a name, so that a slow machine does not end it.
func waitLong(t *testing.T) {
	before := sniffWait
	sniffWait = patience
	t.Cleanup(func() { sniffWait = before })
}

// sniff asks for the name of a flow, which must not be there yet.
func (w *world) sniff(flow uint64) {
	w.t.Helper()
	w.do(func(e *Engine) {
		if ready, err := e.Sniff(flow); ready || err != nil {
			w.t.Errorf("ready: %t, %v", ready, err)
		}
	})
}

func (w *world) named(flow uint64) (found sniff.Finding, err error) {
	w.do(func(e *Engine) { found, err = e.Name(flow) })
	return found, err
}

// held dials and has the flow held.
func (a *app) held(port uint16) (uint64, *gonet.TCPConn) {
	a.t.Helper()
	n := len(a.events(events.TCPRequest))
	conns := make(chan *gonet.TCPConn, 1)
	go func() {
		conn, err := a.dial(port)
		if err != nil {
			a.t.Error(err)
		}
		conns <- conn
	}()
	flow := a.event(events.TCPRequest, n+1).Flow
	a.sniff(flow)
	conn := <-conns
	if conn == nil {
		a.t.FailNow()
	}
	a.t.Cleanup(func() { _ = conn.Close() })
	return flow, conn
}

func (a *app) nothingLeft() {
	a.t.Helper()
	eventually(a.t, "nothing to be left", func() bool {
		s := a.stats()
		return s.Flows == 0 && s.Pending == 0 && s.HalfOpen == 0 && a.engine.held == 0
	})
}

func helloFor(name string) []byte { return snifftest.Hello(&tls.Config{ServerName: name}) }

// The name is found however the ClientHello is cut into segments, and the upstream gets
// each byte of the app, and its end, once.
func TestSniffedAndJoined(t *testing.T) {
	waitLong(t)
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		for i, size := range []int{100, 700, 1 << 20} {
			flow, conn := a.held(443)
			if s := a.stats(); s.Pending != 1 || s.Flows != 0 || s.FlowsTotal != uint64(i) {
				t.Errorf("held: pending %d, flows %d, total %d", s.Pending, s.Flows, s.FlowsTotal)
			}
			hello := helloFor("www.corp.example")
			body := append(bytes.Clone(hello), bytes.Repeat([]byte("0123456789"), 30000)...)
			go func() {
				for done := 0; done < len(hello); done += size {
					if _, err := conn.Write(hello[done:min(done+size, len(hello))]); err != nil {
						t.Error(err)
					}
				}
				if _, err := conn.Write(body[len(hello):]); err != nil {
					t.Error(err)
				}
				_ = conn.CloseWrite()
			}()
			a.event(events.Sniffed, i+1)
			if found, err := a.named(flow); err != nil || found.Name != "www.corp.example" {
				t.Fatalf("named %v, %v", found, err)
			}
			up := a.join(flow, []byte("left"))
			got, err := io.ReadAll(up)
			must(t, err)
			if !bytes.Equal(got, body) {
				t.Fatalf("%d bytes of %d, or not the same", len(got), len(body))
			}
			_, err = up.Write([]byte("over"))
			must(t, err)
			must(t, up.CloseWrite())
			readExactly(t, conn, []byte("leftover"))
			if e := a.closed(flow); e.Error != 0 || e.BytesUp != uint64(len(body)) {
				t.Errorf("closed: %+v", e)
			}
		}
		if s := a.stats(); s.FlowsTotal != 3 {
			t.Errorf("%d flows in all", s.FlowsTotal)
		}
		a.nothingLeft()
	})
}

// An HTTP request is found by its Host, and can still be translated.
func TestSniffedHTTP(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		flow, conn := a.held(80)
		_, err := fmt.Fprint(conn, "GET /a HTTP/1.1\r\nHost: h.example\r\n\r\n")
		must(t, err)
		a.event(events.Sniffed, 1)
		if found, err := a.named(flow); err != nil || found.Name != "h.example" {
			t.Errorf("named %v, %v", found, err)
		}
		u := newUpstream(t)
		a.do(func(e *Engine) { must(t, e.JoinHTTP(flow, u.fd, nil, 0, "name.example", "")) })
		readExactly(t, u.conn, []byte("GET http://h.example/a HTTP/1.1\r\nHost: h.example\r\n\r\n"))
	})
}

// An app that waits for its server to speak has no name after a while, and is served.
func TestSniffSilence(t *testing.T) {
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		flow, conn := a.held(25)
		a.event(events.Sniffed, 1)
		if found, err := a.named(flow); err != nil || found != (sniff.Finding{}) {
			t.Errorf("named %v, %v", found, err)
		}
		up := a.join(flow, nil)
		_, err := up.Write([]byte("220 mail"))
		must(t, err)
		readExactly(t, conn, []byte("220 mail"))
		_, err = conn.Write([]byte("EHLO"))
		must(t, err)
		readExactly(t, up, []byte("EHLO"))
	})
}

// An app that ends what it sends has said all that it will.
func TestSniffHalfClosed(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		flow, conn := a.held(443)
		_, err := conn.Write(helloFor("a.example")[:50])
		must(t, err)
		must(t, conn.CloseWrite())
		a.event(events.Sniffed, 1)
		got, err := io.ReadAll(a.join(flow, nil))
		if err != nil || len(got) != 50 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// A flow can be joined before its name is known, and before its app has completed the
// handshake.
func TestJoinedBeforeItIsSniffed(t *testing.T) {
	waitLong(t)
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		for i, early := range []bool{true, false} {
			c := p.client(uint16(40001 + i))
			c.syn()
			flow := p.event(events.TCPRequest, i+1).Flow
			p.sniff(flow)
			if !early {
				c.answerSYNACK()
				eventually(t, "the handshake", func() bool { return p.stats().HalfOpen == 0 })
			}
			up := p.join(flow, nil)
			if early {
				c.answerSYNACK()
			}
			c.transmit(header.TCPFlagAck|header.TCPFlagPsh, []byte("hello"))
			readExactly(t, up, []byte("hello"))
			if s := p.stats(); s.Flows != uint64(i+1) || s.FlowsTotal != uint64(i+1) || s.Pending != 0 {
				t.Errorf("flows %d, total %d, pending %d", s.Flows, s.FlowsTotal, s.Pending)
			}
		}
		if n := len(p.events(events.Sniffed)); n != 0 {
			t.Errorf("%d names", n)
		}
	})
}

// An app that resets while it is held, before its name is known or after, leaves an
// Abandoned event and nothing else.
func TestSniffedAppGivesUp(t *testing.T) {
	waitLong(t)
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		goroutines, fds := runtime.NumGoroutine(), openFDs(t)
		for i := range 2 {
			flow, conn := a.held(443)
			if i == 1 {
				_, err := conn.Write(helloFor("a.example"))
				must(t, err)
				a.event(events.Sniffed, 1)
			}
			for _, endpoint := range a.stack.RegisteredEndpoints() {
				endpoint.Abort()
			}
			if e := a.event(events.Abandoned, i+1); e.Flow != flow {
				t.Errorf("%+v", e)
			}
			if _, err := a.named(flow); err != unix.ENOENT {
				t.Errorf("named: %v", err)
			}
			u := newUpstream(t)
			a.do(func(e *Engine) {
				if err := e.Join(flow, u.fd, nil, 0); err != unix.ENOENT {
					t.Errorf("joined: %v", err)
				}
			})
			_ = u.conn.Close()
		}
		a.nothingLeft()
		settled(t, goroutines, fds)
	})
}

// A held flow is refused and dropped with a reset.
func TestSniffedAndRefused(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		for i, refuse := range []func(*Engine, uint64) error{
			func(e *Engine, flow uint64) error { return e.Refuse(flow, RefuseProhibited) },
			(*Engine).Drop,
		} {
			flow, conn := a.held(443)
			_, err := conn.Write(helloFor("a.example"))
			must(t, err)
			a.event(events.Sniffed, i+1)
			a.do(func(e *Engine) { must(t, refuse(e, flow)) })
			if _, err := conn.Read(make([]byte, 1)); !wasReset(err) {
				t.Errorf("read: %v", err)
			}
		}
		a.nothingLeft()
		if n := len(a.events(events.Abandoned)) + len(a.events(events.Closed)); n != 0 {
			t.Errorf("%d events", n)
		}
	})
}

// An app that does not complete the handshake is given up like a joined one, and its flow
// is abandoned.
func TestSniffedHalfOpen(t *testing.T) {
	const after = 300 * time.Millisecond
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v, func(c *Config) { c.HalfOpen = after })
		p := newPlayer(w)
		goroutines, fds := runtime.NumGoroutine(), openFDs(t)
		c := p.client(40001)
		c.syn()
		flow := p.event(events.TCPRequest, 1).Flow
		p.sniff(flow)
		c.mine("a SYN-ACK", isSYNACK)
		if s := p.stats(); s.HalfOpen != 1 || s.Pending != 1 {
			t.Errorf("half-open %d, pending %d", s.HalfOpen, s.Pending)
		}
		if e := p.event(events.Abandoned, 1); e.Flow != flow {
			t.Errorf("%+v", e)
		}
		if s := p.stats(); s.HalfOpen != 0 || s.Pending != 0 || s.DropHalfOpen != 1 {
			t.Errorf("half-open %d, pending %d, dropped %d", s.HalfOpen, s.Pending, s.DropHalfOpen)
		}
		settled(t, goroutines, fds)
	})
}

// Held flows make way for others as those do whose packet waits.
func TestSniffedMakesWay(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v, withPace(2, hasty())))
		c := p.client(40001)
		c.syn()
		flow := p.event(events.TCPRequest, 1).Flow
		p.sniff(flow)
		c.answerSYNACK()
		other := p.client(40002)
		other.syn()
		if e := p.event(events.Abandoned, 1); e.Flow != flow {
			t.Errorf("%+v", e)
		}
		c.mine("a reset", hasFlag(header.TCPFlagRst))
		eventually(t, "the other one alone to be left", func() bool { return p.stats().Pending == 1 && p.engine.held == 0 })
	})
}

// Where no more flows can be joined, none is accepted, and its app hears nothing yet.
func TestSniffWhenFull(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v, func(c *Config) { c.FlowLimit = 1 }))
		p := newPlayer(a.world)
		p.client(50001).syn()
		waits := p.event(events.TCPRequest, 1).Flow
		a.held(443)
		a.do(func(e *Engine) {
			if _, err := e.Sniff(waits); err != unix.EMFILE {
				t.Errorf("%v", err)
			}
			if _, err := e.Name(waits); err != unix.ENOENT {
				t.Errorf("named: %v", err)
			}
			must(t, e.Refuse(waits, RefuseReset))
		})
	})
}

// A name is asked for once, of a flow that waits.
func TestSniffTwice(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		flow, _ := a.held(443)
		a.do(func(e *Engine) {
			if _, err := e.Sniff(flow); err != unix.EALREADY {
				t.Errorf("again: %v", err)
			}
			if _, err := e.Sniff(flow + 1); err != unix.ENOENT {
				t.Errorf("another: %v", err)
			}
		})
	})
}

// Close ends held flows at once, wherever they are.
func TestCloseWithHeldFlows(t *testing.T) {
	waitLong(t)
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		for range 5 {
			a.held(443)
		}
		p := newPlayer(a.world)
		p.client(50001).syn()
		a.sniff(a.event(events.TCPRequest, 6).Flow)
		began := time.Now()
		a.close()
		if took := time.Since(began); took >= closeWait {
			t.Errorf("it took %s", took)
		}
	})
}

// What ends a flow and what joins it may come in the same moment: then it is one or the
// other, and the upstream's socket never stays open.
func TestJoinWhileTheAppGivesUp(t *testing.T) {
	waitLong(t)
	const rounds = 60
	forEach(t, corners(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		for i := range rounds {
			flow, _ := a.held(443)
			u := newUpstream(t)
			resets := make(chan struct{})
			go func() {
				defer close(resets)
				time.Sleep(time.Duration(i%20) * 20 * time.Microsecond)
				for _, endpoint := range a.stack.RegisteredEndpoints() {
					endpoint.Abort()
				}
			}()
			time.Sleep(time.Duration(i%7) * 50 * time.Microsecond)
			var err error
			a.do(func(e *Engine) { err = e.Join(flow, u.fd, nil, 0) })
			<-resets
			if _, err := io.ReadAll(u.conn); !wasReset(err) {
				t.Fatalf("round %d: the upstream hears %v", i, err)
			}
			if err == nil {
				a.closed(flow)
			}
		}
		a.nothingLeft()
	})
}

// The first datagrams of QUIC name a flow, at once if they have come; its decision gets
// all of them.
func TestSniffedQUIC(t *testing.T) {
	hello := snifftest.QUICHello(t, "quic.corp.example")
	datagrams := [][]byte{
		snifftest.Initial{Version: snifftest.Version1, Key: snifftest.Connection, Payload: snifftest.Crypto(hello, 0, 100)}.Seal(),
		snifftest.Initial{Version: snifftest.Version1, Key: snifftest.Connection, Number: 1, Payload: snifftest.Crypto(hello, 100, len(hello))}.Seal(),
	}
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		o := newOutside(t)
		source, destination := v.ends()
		for i, early := range []bool{true, false} {
			source = netip.AddrPortFrom(source.Addr(), uint16(6000+i))
			flow := p.datagramFlow(source, destination, datagrams[0]).Flow
			if early {
				p.sendDatagram(source, destination, datagrams[1])
				p.settle()
			}
			p.do(func(e *Engine) {
				if ready, err := e.Sniff(flow); ready != early || err != nil {
					t.Errorf("ready: %t, %v", ready, err)
				}
			})
			if !early {
				p.sendDatagram(source, destination, datagrams[1])
				if e := p.event(events.Sniffed, 1); e.Flow != flow || e.Protocol != uint8(header.UDPProtocolNumber) {
					t.Errorf("%+v", e)
				}
			}
			if found, err := p.named(flow); err != nil || found.Name != "quic.corp.example" {
				t.Errorf("named %v, %v", found, err)
			}
			must(t, p.attach(flow, p.associate(o.relayLeg(), 2, false)))
			for _, want := range datagrams {
				if got, _ := o.read(); !bytes.Equal(got, framed(destination, want)) {
					t.Error("the upstream gets something else")
				}
			}
		}
	})
}

// A flow that says no name, or does not go on, has none after a while.
func TestSniffedDatagrams(t *testing.T) {
	hello := snifftest.QUICHello(t, "quic.corp.example")
	half := snifftest.Initial{Version: snifftest.Version1, Key: snifftest.Connection, Payload: snifftest.Crypto(hello, 0, 100)}.Seal()
	forEach(t, families(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		source, destination := v.ends()
		flow := p.datagramFlow(source, destination, []byte("no QUIC")).Flow
		p.do(func(e *Engine) {
			if _, err := e.Name(flow); err != unix.ENOENT {
				t.Errorf("named: %v", err)
			}
			if ready, err := e.Sniff(flow); !ready || err != nil {
				t.Errorf("ready: %t, %v", ready, err)
			}
			if _, err := e.Sniff(flow); err != unix.EALREADY {
				t.Errorf("again: %v", err)
			}
			must(t, e.Drop(flow))
		})
		flow = p.datagramFlow(netip.AddrPortFrom(source.Addr(), 6001), destination, half).Flow
		p.sniff(flow)
		if e := p.event(events.Sniffed, 1); e.Flow != flow {
			t.Errorf("%+v", e)
		}
		if found, err := p.named(flow); err != nil || found != (sniff.Finding{}) {
			t.Errorf("named %v, %v", found, err)
		}
	})
}
