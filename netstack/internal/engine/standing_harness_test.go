package engine

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// socksServer is a SOCKS5 proxy that the test plays: its connections are given to the test
// once they have asked for their destination.
type socksServer struct {
	t        *testing.T
	listener *net.TCPListener
	asked    chan *net.TCPConn
}

// socksAsks is what asks it for 192.0.2.1, port 80.
var socksAsks = []byte{5, 1, 0, 1, 192, 0, 2, 1, 0, 80}

// socksGrants and socksRefuses are its answers.
var (
	socksGrants  = []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	socksRefuses = []byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}
)

func newSocksServer(t *testing.T) *socksServer {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	s := &socksServer{t: t, listener: listener, asked: make(chan *net.TCPConn, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(4 * patience))
			said := make([]byte, 3)
			if _, err := io.ReadFull(conn, said); err == nil && bytes.Equal(said, []byte{5, 1, 0}) {
				_, _ = conn.Write([]byte{5, 0})
				said = make([]byte, len(socksAsks))
				if _, err := io.ReadFull(conn, said); err == nil && bytes.Equal(said, socksAsks) {
					s.asked <- conn
					continue
				}
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		s.close()
		<-done
	})
	return s
}

// close closes what the test has not taken.
func (s *socksServer) close() {
	_ = s.listener.Close()
	for len(s.asked) > 0 {
		_ = (<-s.asked).Close()
	}
}

func (s *socksServer) course(patience time.Duration) []byte {
	return courseTo(s.listener.Addr(), patience,
		courseStep{send: []byte{5, 1, 0}, mask: []byte{0xff, 0xff}, value: []byte{5, 0}},
		courseStep{own: 1, tail: 1, mask: []byte{0xff, 0xff, 0, 0}, value: []byte{5, 0, 0, 0}})
}

// next is the next connection that has asked.
func (s *socksServer) next() *net.TCPConn {
	s.t.Helper()
	select {
	case conn := <-s.asked:
		s.t.Cleanup(func() { _ = conn.Close() })
		return conn
	case <-time.After(patience):
		s.t.Fatalf("nobody asks the proxy\n%s", stacks())
		return nil
	}
}

// grant has the next one succeed.
func (s *socksServer) grant() *net.TCPConn {
	s.t.Helper()
	conn := s.next()
	_, err := conn.Write(socksGrants)
	must(s.t, err)
	return conn
}

// standingWorld is a world with a SOCKS5 proxy for this machine's flows.
type standingWorld struct {
	*player
	proxy  *socksServer
	number uint64 // of the decision
}

func newStandingWorld(t *testing.T, v variant, silentAfter time.Duration, options ...func(*Config)) *standingWorld {
	t.Helper()
	s := &standingWorld{proxy: newSocksServer(t), player: newPlayer(newWorld(t, v, options...))}
	s.do(func(e *Engine) { s.number = s.stand(e, true, s.proxy.course(silentAfter), socksAsks, 0) })
	return s
}

// stood takes what was counted.
func (w *world) stood() (all []Stood) {
	w.t.Helper()
	w.do(func(e *Engine) {
		all = make([]Stood, 10)
		all = all[:e.Stood(all)]
	})
	return all
}

// tellsNothing fails if there was an event of another kind than these.
func (w *world) tellsNothing(but ...uint32) {
	w.t.Helper()
	w.do(func(*Engine) {})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, event := range w.log {
		if !slices.Contains(but, event.Kind) {
			w.t.Errorf("event %+v", event)
		}
	}
}
