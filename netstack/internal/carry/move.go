package carry

import (
	"io"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/sock"
)

const (
	// readSize is the most bytes one read takes from a socket: a little less
	// than one segment of the link can carry, so that no tail is left.
	readSize = 60 << 10

	// smallRead is the most bytes of a read that is copied once more.
	smallRead = 16 << 10

	// maxAnswer is less than this many bytes of an answer that a question waits for.
	maxAnswer = 1400

	// downBudget is the most bytes that one step moves down before other
	// flows of the thread get their turn.
	downBudget = 4 * readSize

	// SendBuffer is the most bytes that wait in the stack for the app, per
	// flow. The link is memory, so a flow needs no more for speed; a slow
	// reader costs no more.
	SendBuffer = 512 << 10
)

// moveUp moves what the app sent to the socket, until there is no more or the
// socket is full. What it cannot write stays in the endpoint and closes the
// app's window. An errno is the app's.
func (f *Flow) moveUp() unix.Errno {
	if f.HTTP != nil {
		return f.translateUp()
	}
	w := socketWriter{fd: f.fd, wire: f.Wire}
	return f.moveUpBy(&w, &w)
}

// moveUpBy is moveUp by a writer that ends in w.
func (f *Flow) moveUpBy(writer io.Writer, w *socketWriter) unix.Errno {
	for {
		result, err := f.Endpoint.Read(writer, tcpip.ReadOptions{})
		if result.Count > 0 {
			f.bytesUp.Add(uint64(result.Count))
			f.touch()
			f.askedAt = time.Duration(f.active.Load())
		}
		if w.errno == unix.EAGAIN {
			f.blockUp()
			return 0
		}
		if w.errno != 0 {
			f.lose(w.errno)
			return 0
		}
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			f.flushed()
			return 0
		case *tcpip.ErrClosedForReceive:
			// The app's FIN: pass it on. It fails only if the upstream
			// is gone, which the other direction will find.
			if f.Wire == nil {
				_ = unix.Shutdown(f.fd, unix.SHUT_WR)
			} else if f.Wire.CloseWrite(); !f.flushed() {
				return 0 // comes back when there is room
			}
			f.upDone = true
			f.noteHalfClosed()
			return 0
		default:
			return errnoOf(err)
		}
	}
}

// blockUp has nothing read from the app until the socket takes more.
func (f *Flow) blockUp() {
	f.upBlocked = true
	if !f.roomWatched {
		f.roomWatched = true
		f.loop.watchRoom(f)
	}
}

// flushed tells whether the socket has taken everything that was written.
func (f *Flow) flushed() bool {
	if f.Wire == nil {
		return true
	}
	switch errno := f.Wire.Flush(); errno {
	case 0:
		return true
	case unix.EAGAIN:
		f.blockUp()
	default:
		f.lose(errno)
	}
	return false
}

// socketWriter writes to a non-blocking socket and remembers why it stopped.
type socketWriter struct {
	fd    int
	wire  Wire
	errno unix.Errno
}

func (w *socketWriter) Write(p []byte) (n int, err error) {
	if w.wire != nil {
		n, w.errno = w.wire.Write(p)
	} else {
		n, w.errno = sock.Send(w.fd, p)
	}
	if w.errno != 0 {
		return n, w.errno
	}
	return n, nil
}

// moveDown moves what the upstream sent to the app, until there is no more, the
// endpoint is full or the budget is spent. A full endpoint notifies when it has
// come down to half. An errno is the app's.
func (f *Flow) moveDown() unix.Errno {
	for budget := downBudget; budget > 0; {
		f.downBlocked = f.Endpoint.Readiness(waiter.WritableEvents) == 0
		if f.downBlocked {
			return 0
		}
		if len(f.leftover) > 0 {
			n, errno := f.write(f.leftover)
			f.leftover = f.leftover[n:]
			if errno != 0 {
				f.downBlocked = errno == unix.EAGAIN
				return blocked(errno)
			}
			budget -= n
			continue
		}
		f.leftover = nil
		if f.HTTP != nil && !f.answered {
			if errno := f.firstAnswer(); errno != 0 {
				return blocked(errno)
			}
			continue // what was looked at may have become a leftover
		}
		n, errno := f.readAndWrite()
		if errno != 0 {
			return blocked(errno)
		}
		if n == 0 && f.lost != 0 {
			// A failure that was told already looks like an end.
			f.emptied = true
			return 0
		}
		if n == 0 {
			f.Endpoint.Shutdown(tcpip.ShutdownWrite)
			f.downDone = true
			f.noteHalfClosed()
			return 0
		}
		budget -= n
		if f.emptySocket {
			return 0 // the next edge tells of more
		}
	}
	f.loop.ask(f, markDown)
	return 0
}

// blocked is 0 for the errno that only says to come back later.
func blocked(errno unix.Errno) unix.Errno {
	if errno == unix.EAGAIN {
		return 0
	}
	return errno
}

// unreadable is the errno for a step whose read from the socket failed: it comes back
// later, even if there will be nothing more to read.
func (f *Flow) unreadable(errno unix.Errno) unix.Errno {
	if errno != unix.EAGAIN {
		f.emptied = true
		f.lose(errno)
	}
	return unix.EAGAIN
}

// write gives bytes to the endpoint, which may take fewer.
func (f *Flow) write(p []byte) (int, unix.Errno) {
	r := sliceReader{p}
	n, err := f.Endpoint.Write(&r, tcpip.WriteOptions{})
	if err != nil {
		return 0, f.downErrno(err)
	}
	f.bytesDown.Add(uint64(n))
	f.touch()
	return int(n), 0
}

// readAndWrite moves one read's worth; 0 is the upstream's FIN.
func (f *Flow) readAndWrite() (int, unix.Errno) {
	f.emptySocket = false
	if f.Wire != nil {
		return f.readWire()
	}
	if f.bulk {
		if unread, err := unix.IoctlGetInt(f.fd, unix.TIOCINQ); err == nil && unread > smallRead {
			return f.readBulk(min(unread, readSize))
		}
	}
	// A small answer does not take a buffer made for a large one.
	small := smallBuffers.Get().(*[smallRead]byte)
	defer smallBuffers.Put(small)
	n, errno := readSocket(f.fd, small[:])
	if errno != 0 {
		return 0, f.unreadable(errno)
	}
	if n == 0 {
		return 0, 0
	}
	f.bulk = n == smallRead
	f.emptySocket = n < smallRead && !f.readAll
	written, errno := f.write(small[:n])
	if written < n {
		f.leftover, f.emptySocket = slices.Clone(small[written:n]), false
	}
	if f.askedAt != 0 {
		f.quick.Store(n < maxAnswer && time.Duration(f.active.Load())-f.askedAt < promptly)
		f.askedAt = 0
	}
	return n, errno
}

// readBulk reads up to size bytes, which are there, straight into the buffer that
// the segment will be sent from. What the endpoint has no room for stays in the
// socket.
func (f *Flow) readBulk(size int) (int, unix.Errno) {
	r := socketReader{fd: f.fd, left: size}
	n, err := f.Endpoint.Write(&r, tcpip.WriteOptions{})
	switch {
	case r.errno != 0:
		return 0, f.unreadable(r.errno)
	case err != nil:
		return 0, f.downErrno(err)
	}
	f.bytesDown.Add(uint64(n))
	f.touch()
	return int(n), 0
}

func (f *Flow) downErrno(err tcpip.Error) unix.Errno {
	switch err.(type) {
	case *tcpip.ErrWouldBlock:
		return unix.EAGAIN
	case *tcpip.ErrClosedForSend:
		return unix.ECONNRESET // only a reset closes it before downDone
	}
	return errnoOf(err)
}

// ReadSocket reads what is there without waiting.
func ReadSocket(fd int, p []byte) (int, unix.Errno) { return readSocket(fd, p) }

func readSocket(fd int, p []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// socketReader is a tcpip.Payloader of bytes that wait in a socket. gVisor takes
// all that Len promises, so a socket that has less is an error.
type socketReader struct {
	fd    int
	left  int
	errno unix.Errno
}

// Len implements tcpip.Payloader.
func (r *socketReader) Len() int { return r.left }

// Read implements io.Reader. gVisor asks with an empty slice whether the end is
// reached before it asks for bytes.
func (r *socketReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, errno := readSocket(r.fd, p[:min(len(p), r.left)])
	if errno == 0 && n == 0 {
		errno = unix.ECONNRESET
	}
	if errno != 0 {
		r.errno = errno
		return 0, errno
	}
	r.left -= n
	return n, nil
}

// sliceReader is a tcpip.Payloader for bytes at hand.
type sliceReader struct{ left []byte }

// Len implements tcpip.Payloader.
func (r *sliceReader) Len() int { return len(r.left) }

// Read implements io.Reader.
func (r *sliceReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
