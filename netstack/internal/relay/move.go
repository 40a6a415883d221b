package relay

import (
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	// readSize is the most bytes one read takes from a socket: as much as one
	// segment of the link can carry.
	readSize = 64 << 10

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
// app's window.
func (f *Flow) moveUp() unix.Errno {
	w := socketWriter{fd: f.fd}
	for {
		result, err := f.Endpoint.Read(&w, tcpip.ReadOptions{})
		if result.Count > 0 {
			f.bytesUp.Add(uint64(result.Count))
			f.touch()
		}
		if w.errno == unix.EAGAIN {
			f.upBlocked = true
			return 0
		}
		if w.errno != 0 {
			return w.errno
		}
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			return 0
		case *tcpip.ErrClosedForReceive:
			// The app's FIN: pass it on. It fails only where the upstream
			// is gone, which the other direction will tell.
			_ = unix.Shutdown(f.fd, unix.SHUT_WR)
			f.upDone = true
			f.noteHalfClosed()
			return 0
		default:
			return errnoOf(err)
		}
	}
}

// socketWriter writes to a non-blocking socket and remembers why it stopped.
type socketWriter struct {
	fd    int
	errno unix.Errno
}

func (w *socketWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		// MSG_NOSIGNAL: a SIGPIPE would reach Python's process.
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(w.fd), uintptr(unsafe.Pointer(&p[done])),
			uintptr(len(p)-done), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			w.errno = errno
			return done, errno
		}
		done += int(n)
	}
	return done, nil
}

// moveDown moves what the upstream sent to the app, until there is no more, the
// endpoint is full or the budget is spent.
func (f *Flow) moveDown() unix.Errno {
	if len(f.leftover) > 0 {
		r := sliceReader{f.leftover}
		n, err := f.Endpoint.Write(&r, tcpip.WriteOptions{})
		if err != nil {
			return downErrno(err)
		}
		f.bytesDown.Add(uint64(n))
		f.leftover = f.leftover[n:]
		if len(f.leftover) > 0 {
			f.downBlocked.Store(true)
			f.loop.ask(f, markDown)
			return 0
		}
		f.leftover = nil
	}
	for budget := downBudget; budget > 0; {
		used := f.queued()
		if used > SendBuffer/2 {
			// The endpoint notifies when it has come down to half. It may
			// have done so just before the mark was seen, so look again.
			f.downBlocked.Store(true)
			if used = f.queued(); used > SendBuffer/2 {
				return 0
			}
		}
		f.downBlocked.Store(false)
		n, errno := f.readAndWrite(min(SendBuffer-used, readSize))
		switch {
		case errno == unix.EAGAIN:
			return 0
		case errno != 0:
			return errno
		case n == 0:
			f.Endpoint.Shutdown(tcpip.ShutdownWrite)
			f.downDone = true
			f.noteHalfClosed()
			return 0
		}
		budget -= n
	}
	f.loop.ask(f, markDown)
	return 0
}

// queued is how many bytes wait in the endpoint for the app.
func (f *Flow) queued() int {
	n, _ := f.Endpoint.GetSockOptInt(tcpip.SendQueueSizeOption)
	return n
}

// readAndWrite moves one read's worth, at most room bytes; 0 is the upstream's
// FIN.
func (f *Flow) readAndWrite(room int) (int, unix.Errno) {
	if f.bulk {
		// Straight into the buffer that the segment will be sent from.
		r := socketReader{fd: f.fd, room: room}
		n, err := f.Endpoint.Write(&r, tcpip.WriteOptions{})
		f.bulk = r.n > readSize/4
		switch {
		case r.errno != 0:
			return 0, r.errno
		case err != nil:
			return 0, downErrno(err)
		case r.n == 0:
			return 0, 0
		}
		f.bytesDown.Add(uint64(n))
		f.touch()
		return int(n), 0
	}
	// A small answer does not take a 64 KiB buffer.
	small := smallBuffers.Get().(*[readSize / 4]byte)
	defer smallBuffers.Put(small)
	n, errno := readSocket(f.fd, small[:min(room, len(small))])
	if errno != 0 || n == 0 {
		return 0, errno
	}
	f.bulk = n == len(small)
	r := sliceReader{small[:n]}
	if _, err := f.Endpoint.Write(&r, tcpip.WriteOptions{}); err != nil {
		return 0, downErrno(err)
	}
	f.bytesDown.Add(uint64(n))
	f.touch()
	return n, 0
}

func downErrno(err tcpip.Error) unix.Errno {
	switch err.(type) {
	case *tcpip.ErrWouldBlock:
		return unix.EAGAIN
	case *tcpip.ErrClosedForSend:
		return unix.EPIPE
	}
	return errnoOf(err)
}

func readSocket(fd int, p []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// socketReader is a tcpip.Payloader that reads once from a socket.
type socketReader struct {
	fd    int
	room  int
	n     int
	errno unix.Errno
	read  bool
}

// Len implements tcpip.Payloader.
func (r *socketReader) Len() int { return r.room }

// Read implements io.Reader. gVisor asks with an empty slice whether the end is
// reached before it asks for bytes.
func (r *socketReader) Read(p []byte) (int, error) {
	if r.read {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	r.read = true
	n, errno := readSocket(r.fd, p)
	if errno != 0 {
		r.errno = errno
		return 0, io.EOF
	}
	r.n = n
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
