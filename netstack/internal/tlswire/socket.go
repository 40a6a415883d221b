package tlswire

import (
	"io"
	"net"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/sock"
)

// later is what a read from an empty socket returns. crypto/tls keeps what it has read so
// far for the next call if an error says that it is temporary.
type later struct{}

func (later) Error() string   { return "nothing is there yet" }
func (later) Timeout() bool   { return true }
func (later) Temporary() bool { return true }

// socket is the net.Conn that crypto/tls reads from and writes to: a non-blocking socket, or
// a wire on one. What is read is read ahead, because crypto/tls asks for little, and what is
// written is collected for flush, because it writes each record by itself.
type socket struct {
	fd    int
	below *Wire  // nil: the bytes on fd are ours
	early []byte // was received already

	// The rest belongs to whoever may call crypto/tls: the handshake's goroutine, then the
	// flow's step.
	pending *[]byte    // was written, or nil
	sent    int        // how much of it the kernel has taken
	failed  unix.Errno // of a send
	ahead   *[readAhead]byte
	from    int // the part of ahead that crypto/tls has yet to take
	to      int

	mu      sync.Mutex
	changed sync.Cond
	waits   bool // in the handshake: a read waits for the socket
	ready   bool // something has happened since the last read
	dropped bool
}

const (
	// readAhead is the most bytes that are read at a time: some records.
	readAhead = 64 << 10

	// batchSize is how many bytes are worth to be sent; a flow writes as many more at most.
	// A larger buffer is not kept.
	batchSize  = 64 << 10
	batchLimit = 4 * batchSize
)

var (
	aheadBuffers = sync.Pool{New: func() any { return new([readAhead]byte) }}
	batches      = sync.Pool{New: func() any { return new([]byte) }}
)

func newSocket(fd int, below *Wire, early []byte) *socket {
	s := &socket{fd: fd, below: below, early: early, waits: true}
	s.changed.L = &s.mu
	return s
}

// wake has the handshake's read look at the socket again.
func (s *socket) wake() {
	s.mu.Lock()
	s.ready = true
	s.changed.Signal()
	s.mu.Unlock()
}

// drop has the handshake's read fail.
func (s *socket) drop() {
	s.mu.Lock()
	s.dropped = true
	s.changed.Signal()
	s.mu.Unlock()
}

// await waits until the socket may have something.
func (s *socket) await() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ready && !s.dropped {
		s.changed.Wait()
	}
	s.ready = false
	if s.dropped {
		return net.ErrClosed
	}
	return nil
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, errno := s.receive(p)
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && !s.waits:
			return 0, later{}
		case errno == unix.EAGAIN:
			s.flush()
			if err := s.await(); err != nil {
				return 0, err
			}
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (s *socket) receive(p []byte) (int, unix.Errno) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, 0
	}
	if s.below != nil {
		return s.below.Read(p)
	}
	if s.ahead == nil {
		buffer := aheadBuffers.Get().(*[readAhead]byte)
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&buffer[0])),
			readAhead, unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 || n == 0 {
			aheadBuffers.Put(buffer)
			return 0, errno
		}
		s.ahead, s.from, s.to = buffer, 0, int(n)
	}
	n := copy(p, s.ahead[s.from:s.to])
	if s.from += n; s.from == s.to {
		aheadBuffers.Put(s.ahead)
		s.ahead = nil
	}
	return n, 0
}

// Write implements net.Conn. p is crypto/tls's again afterwards.
func (s *socket) Write(p []byte) (int, error) {
	if s.failed != 0 {
		return 0, s.failed
	}
	if s.pending == nil {
		s.pending = batches.Get().(*[]byte)
	}
	*s.pending = append(*s.pending, p...)
	return len(p), nil
}

// full tells whether there is enough to send.
func (s *socket) full() bool { return s.pending != nil && len(*s.pending)-s.sent >= batchSize }

// flush sends what is pending, and tells whether everything is sent.
func (s *socket) flush() bool {
	if s.pending == nil {
		return s.flushBelow()
	}
	s.sent += s.send((*s.pending)[s.sent:])
	if s.sent < len(*s.pending) {
		return false
	}
	if cap(*s.pending) <= batchLimit {
		*s.pending = (*s.pending)[:0]
		batches.Put(s.pending)
	}
	s.pending, s.sent = nil, 0
	return s.flushBelow()
}

func (s *socket) flushBelow() bool {
	if s.below == nil {
		return true
	}
	errno := s.below.Flush()
	if errno != 0 && errno != unix.EAGAIN {
		s.failed = errno
	}
	return errno == 0
}

func (s *socket) send(p []byte) (sent int) {
	var errno unix.Errno
	if s.below != nil {
		sent, errno = s.below.Write(p)
	} else {
		sent, errno = sock.Send(s.fd, p)
	}
	if errno != 0 && errno != unix.EAGAIN {
		s.failed = errno
	}
	return sent
}

// The rest of net.Conn. The socket belongs to its flow, which closes it, and there is one
// deadline for a whole dial.

// Close implements net.Conn.
func (s *socket) Close() error { return nil }

// LocalAddr implements net.Conn.
func (s *socket) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn. crypto/tls asks for it without a server's name.
func (s *socket) RemoteAddr() net.Addr { return &net.UnixAddr{} }

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (s *socket) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
