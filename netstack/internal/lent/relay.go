package lent

import (
	"sync"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/sock"
	"nanotun/netstack/internal/tlswire"
)

// bufferSize is the most bytes that a relay takes at a time: what one record holds.
const bufferSize = 16 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// relay moves bytes between the near end of a pair and a wire.
type relay struct {
	loop   *carry.Loop
	cookie uint64

	mu        sync.Mutex
	near, fd  int
	handshake *tlswire.Handshake // under way; it uses fd
	wire      *tlswire.Wire      // nil: not yet
	over      bool

	down     []byte // read from the wire, and not yet written to near
	wireDone bool   // its end was passed on
	nearDone bool   // Python's end was passed on
	gone     bool   // Python has closed its end
}

const watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// nearSide and wireSide are told of the two sockets.
type (
	nearSide relay
	wireSide relay
)

// watch begins, and returns the lent end. mu is held.
func (r *relay) watch(end int) (int, error) {
	err := r.loop.WatchFor(r.fd, (*wireSide)(r), watched)
	if err == nil {
		err = r.loop.WatchFor(r.near, (*nearSide)(r), watched)
	}
	if err != nil {
		_ = unix.Close(end)
		r.end()
		return -1, err
	}
	return end, nil
}

// Ready implements carry.Watcher.
func (n *nearSide) Ready(events uint32) {
	r := (*relay)(n)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.gone = r.gone || events&(unix.EPOLLHUP|unix.EPOLLERR) != 0
	if r.handshake == nil {
		r.move()
	} else if r.gone {
		r.end()
	}
}

// Ready implements carry.Watcher.
func (w *wireSide) Ready(uint32) {
	r := (*relay)(w)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.over:
	case r.handshake != nil:
		r.handshake.Ready()
	default:
		r.move()
	}
}

// shaken is called by the handshake's goroutine.
func (r *relay) shaken(wire *tlswire.Wire, err error, host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handshake = nil
	if r.over {
		r.closeWire()
		return
	}
	r.wire = wire
	r.down = append(tlswire.Message(err, host), r.down...)
	if err != nil {
		_, _ = sock.Send(r.near, r.down)
		r.end()
		return
	}
	r.move()
}

// move moves what can be moved. mu is held.
func (r *relay) move() {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	r.moveDown(buffer)
	if !r.over {
		r.moveUp(buffer)
	}
	if !r.over && (r.gone || r.wireDone) && r.nearDone && r.wire.Flush() != unix.EAGAIN {
		r.end()
	}
}

func (r *relay) moveDown(buffer *[bufferSize]byte) {
	for !r.wireDone && !r.gone {
		n, errno := sock.Send(r.near, r.down)
		r.down = r.down[n:]
		if errno == unix.EAGAIN {
			return
		}
		r.gone = errno != 0
		n, errno = r.wire.Read(buffer[:])
		switch {
		case errno == unix.EAGAIN:
			_ = r.wire.Flush() // TLS answers some records by itself
			return
		case errno != 0:
			r.end()
			return
		case n == 0:
			r.wireDone = true
			_ = unix.Shutdown(r.near, unix.SHUT_WR)
			return
		}
		r.down = append(r.down[:0:0], buffer[:n]...)
	}
}

func (r *relay) moveUp(buffer *[bufferSize]byte) {
	for !r.nearDone {
		switch errno := r.wire.Flush(); errno {
		case 0:
		case unix.EAGAIN:
			return
		default:
			r.end()
			return
		}
		n, errno := carry.ReadSocket(r.near, buffer[:])
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			r.nearDone = true
			r.wire.CloseWrite()
			_ = r.wire.Flush()
		default:
			_, _ = r.wire.Push(buffer[:n])
		}
	}
}

// reclaim ends the relay, and returns the connection with all that was on the way.
func (r *relay) reclaim(end int) Leg {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.wire == nil {
		// It has failed, or was never ready: whoever reads from the end will see.
		return Leg{FD: end}
	}
	r.over = true
	r.loop.Dismiss(r.near)
	r.loop.Dismiss(r.fd)
	forget(r)
	drain(r.near, func(p []byte) { _, _ = r.wire.Push(p) })
	_ = r.wire.Flush()
	leg := Leg{FD: r.fd, Wire: r.wire}
	drain(end, func(p []byte) { leg.Leftover = append(leg.Leftover, p...) })
	leg.Leftover = append(leg.Leftover, r.down...)
	_, _ = unix.Close(r.near), unix.Close(end)
	return leg
}

// drain reads what waits in a socket.
func drain(fd int, take func(p []byte)) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, errno := carry.ReadSocket(fd, buffer[:])
		if errno != 0 || n == 0 {
			return
		}
		take(buffer[:n])
	}
}

// end closes everything; Python finds that its end was closed. mu is held.
func (r *relay) end() {
	r.over = true
	r.loop.Unwatch(r.near)
	r.loop.Unwatch(r.fd)
	_ = unix.Close(r.near)
	forget(r)
	if r.handshake != nil {
		r.handshake.Drop() // closes it in the end
		return
	}
	r.closeWire()
}

// closeWire closes the socket: with a reset, unless both sides have said all.
func (r *relay) closeWire() {
	if r.wire == nil {
		leg := Leg{FD: r.fd}
		leg.close()
		return
	}
	_ = unix.Close(r.fd)
}
