package engine

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/dial"
	"nanotun/netstack/internal/events"
)

// The conversation of these tests' course is a greeting, "hi", with its answer, "ok", and the
// flow's own bytes, answered by "go".
const (
	dialRequest  = "to there"
	dialReceived = "okgo"
)

// proxy is who the course leads to.
type proxy struct {
	t        *testing.T
	listener *net.TCPListener
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return &proxy{t, listener}
}

// course is the blob of a course to the proxy.
func (p *proxy) course(timeout, patience time.Duration) []byte {
	end := netip.MustParseAddrPort(p.listener.Addr().String())
	order := binary.NativeEndian
	b := order.AppendUint32(nil, 0)
	b = order.AppendUint32(b, uint32(timeout.Milliseconds()))
	b = order.AppendUint32(b, 0)
	b = order.AppendUint32(b, uint32(patience.Milliseconds()))
	b = order.AppendUint32(b, 0)
	b = order.AppendUint16(b, 1)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, unix.AF_INET)
	b = order.AppendUint16(b, unix.SizeofSockaddrInet4)
	b = order.AppendUint16(b, unix.AF_INET)
	b = binary.BigEndian.AppendUint16(b, end.Port())
	b = append(append(b, end.Addr().AsSlice()...), make([]byte, 8)...)
	for _, step := range []struct{ send, answer string }{{"hi", "ok"}, {"", "go"}} {
		b = append(b, pick[byte](step.send == "", 1, 0), 0)
		b = order.AppendUint16(b, uint16(len(step.send)))
		b = order.AppendUint16(b, uint16(len(step.answer)))
		b = append(append(append(b, 0, 0), step.send...), 0xff, 0xff)
		b = append(b, step.answer...)
	}
	return b
}

// accept takes the next dial.
func (p *proxy) accept() *net.TCPConn {
	p.t.Helper()
	must(p.t, p.listener.SetDeadline(time.Now().Add(patience)))
	conn, err := p.listener.AcceptTCP()
	must(p.t, err)
	must(p.t, conn.SetDeadline(time.Now().Add(4*patience)))
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// halfway accepts a dial and answers its first message only.
func (p *proxy) halfway() *net.TCPConn {
	p.t.Helper()
	conn := p.accept()
	readExactly(p.t, conn, []byte("hi"))
	write(p.t, conn, "ok")
	readExactly(p.t, conn, []byte(dialRequest))
	return conn
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	_, err := w.Write([]byte(text))
	must(t, err)
}

func (w *world) course(blob []byte) (number uint32) {
	w.t.Helper()
	w.do(func(e *Engine) {
		n, err := e.Course(blob)
		must(w.t, err)
		number = uint32(n)
	})
	return number
}

func (w *world) dialBy(course uint32, flow uint64) (err error) {
	w.t.Helper()
	w.do(func(e *Engine) { err = e.Dial(flow, course, -1, 0, []byte(dialRequest), 0) })
	return err
}

// dialled takes the end of a dial, once it has been told.
func (w *world) dialled(n int) *dial.Result {
	w.t.Helper()
	event := w.event(events.DialEnded, n)
	if event.BytesUp != 0 {
		w.t.Errorf("%+v", event)
	}
	var end *dial.Result
	w.do(func(e *Engine) {
		var err error
		end, err = e.Dialled(event.Flow)
		must(w.t, err)
	})
	return end
}

// halfDialled is an engine with a flow whose dial waits for its last answer.
type halfDialled struct {
	*player
	client *client
	proxy  *proxy
	course uint32
	flow   uint64
	up     *net.TCPConn
}

func newHalfDialled(t *testing.T, v variant) *halfDialled {
	t.Helper()
	p := newPlayer(newWorld(t, v))
	h := &halfDialled{player: p, client: p.client(42000), proxy: newProxy(t)}
	h.course = p.course(h.proxy.course(time.Hour, 0))
	h.client.syn()
	h.flow = p.event(events.TCPRequest, 1).Flow
	must(t, p.dialBy(h.course, h.flow))
	h.up = h.proxy.halfway()
	return h
}

// serve plays the proxy: in the way that goes well, by something else, an end or a reset.
func serve(conn *net.TCPConn, way int) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	b := make([]byte, len(dialRequest))
	if _, err := io.ReadFull(conn, b[:2]); err != nil || way == 3 {
		return
	}
	_, _ = conn.Write([]byte(pick(way == 2, "no", "ok")))
	if _, err := io.ReadFull(conn, b); err != nil {
		return
	}
	if way == 4 {
		_ = conn.SetLinger(0)
		return
	}
	_, _ = conn.Write([]byte("goleft over"))
}
