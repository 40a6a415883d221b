package engine

import (
	"encoding/binary"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/events"
)

// standingPath has the flows of a world dialled by standing decisions, and makes tests of
// admission see the same as if Python had been told of each: it looks at the engine's tables
// after every packet, and adds events for what has begun, been given up, or ended.
//
// The proxy accepts, and is silent until the test answers for a flow. Connections are
// accepted in the order in which the flows have begun.
type standingPath struct {
	w        *world
	listener *net.TCPListener

	// All below belongs to the pump's thread.
	flows map[uint64]*pathFlow
	begun []uint64
	conns []*net.TCPConn
}

// pathFlow is one flow by a standing decision.
type pathFlow struct {
	nth      int // in the order of the beginning
	event    events.Event
	answered bool        // the proxy's answer is sent
	joined   *joinedFlow // nil: it was not seen
	over     bool
}

// testAnswer is what a proxy says at the end of the handshake.
const testAnswer = '+'

// answerCourse is to a proxy which says testAnswer, and to which nothing is sent.
func answerCourse(proxy net.Addr) []byte {
	return courseTo(proxy, 0, courseStep{mask: []byte{0xff}, value: []byte{testAnswer}})
}

// courseStep is one step of ns_course's blob.
type courseStep struct {
	send        []byte
	own, tail   byte
	mask, value []byte
}

// courseTo is ns_course's blob: one address, an hour's time, and these steps.
func courseTo(proxy net.Addr, patience time.Duration, steps ...courseStep) (blob []byte) {
	order := binary.NativeEndian
	for _, field := range []time.Duration{0, time.Hour, 0, patience} {
		blob = order.AppendUint32(blob, uint32(field.Milliseconds()))
	}
	blob = order.AppendUint32(blob, 0) // no TLS
	blob = order.AppendUint16(order.AppendUint16(blob, 1), uint16(len(steps)))
	address := proxy.(*net.TCPAddr).AddrPort()
	blob = order.AppendUint16(order.AppendUint16(blob, unix.AF_INET), unix.SizeofSockaddrInet4)
	blob = order.AppendUint16(blob, unix.AF_INET)
	blob = binary.BigEndian.AppendUint16(blob, address.Port())
	blob = append(append(blob, address.Addr().Unmap().AsSlice()...), make([]byte, 8)...)
	for _, s := range steps {
		blob = append(blob, s.own, s.tail)
		for _, size := range []int{len(s.send), len(s.mask), 0} {
			blob = order.AppendUint16(blob, uint16(size))
		}
		blob = append(append(append(blob, s.send...), s.mask...), s.value...)
	}
	return blob
}

// stand has flows to where a player's go dialled by this course.
func (w *world) stand(e *Engine, ours bool, course, request []byte, lasts time.Duration) (number uint64) {
	w.t.Helper()
	c, err := e.Course(course)
	must(w.t, err)
	number, err = e.Stand(tupleSource(w.v.far()), 443, w.v.six, ours, uint32(c), request, lasts, 0)
	must(w.t, err)
	return number
}

func newStandingPath(w *world) *standingPath {
	w.t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(w.t, err)
	path := &standingPath{w: w, listener: listener, flows: make(map[uint64]*pathFlow)}
	for _, ours := range []bool{true, false} {
		w.stand(w.engine, ours, answerCourse(listener.Addr()), nil, 0)
	}
	w.t.Cleanup(func() {
		if len(path.begun) == 0 {
			w.t.Error("no flow was dialled by a standing decision")
		}
		_ = listener.Close()
		for _, conn := range path.conns {
			_ = conn.Close()
		}
	})
	return path
}

// look finds out what has happened to flows that Python was not told of.
func (path *standingPath) look() (found []events.Event) {
	e := path.w.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending.mu.Lock()
	defer e.pending.mu.Unlock()
	for flow, w := range e.pending.byFlow {
		if w.standing != nil && path.flows[flow] == nil {
			path.flows[flow] = &pathFlow{event: w.tuple.event(events.TCPRequest, flow)}
			found = append(found, path.flows[flow].event)
		}
	}
	slices.SortFunc(found, func(a, b events.Event) int { return int(a.Flow) - int(b.Flow) })
	for _, event := range found {
		path.flows[event.Flow].nth = len(path.begun)
		path.begun = append(path.begun, event.Flow)
	}
	for _, table := range []map[tuple]*joinedFlow{e.opening, e.joined} {
		for _, f := range table {
			if known := path.flows[f.ID]; known != nil {
				known.joined = f
			}
		}
	}
	for flow, known := range path.flows {
		if known.over {
			continue
		}
		event := known.event
		switch f := known.joined; {
		case f != nil && e.opening[f.tuple] != f && e.joined[f.tuple] != f:
			event.Kind, event.Error = events.Closed, int32(f.givenUp)
		case f == nil && e.pending.byFlow[flow] == nil:
			event.Kind = pick[uint32](known.answered, events.Closed, events.Abandoned)
		default:
			continue
		}
		known.over = true
		found = append(found, event)
	}
	return found
}

// answer has the proxy answer for a flow, and waits until that is joined. nil: the flow is
// not dialled by a standing decision.
func (path *standingPath) answer(flow uint64, leftover []byte) (conn *net.TCPConn) {
	path.w.t.Helper()
	path.w.do(func(*Engine) {
		known := path.flows[flow]
		if known == nil {
			return
		}
		for len(path.conns) <= known.nth {
			next, err := path.listener.AcceptTCP()
			if err != nil {
				panic(err)
			}
			_ = next.SetDeadline(time.Now().Add(4 * patience))
			path.conns = append(path.conns, next)
		}
		conn, known.answered = path.conns[known.nth], true
	})
	if conn == nil {
		return nil
	}
	_, err := conn.Write(append([]byte{testAnswer}, leftover...))
	must(path.w.t, err)
	eventually(path.w.t, "the flow to be joined", func() (gone bool) {
		path.w.do(func(e *Engine) { _, gone = e.pending.held(flow) })
		return !gone
	})
	return conn
}
