package carry

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/plainhttp"
)

// requestWriter is a socketWriter that translates requests on their way.
type requestWriter struct {
	socketWriter
	rewriter *plainhttp.Rewriter
	why      plainhttp.Reason
}

// flush sends what is pending. False: errno says why not all of it.
func (w *requestWriter) flush() bool {
	pending := w.rewriter.Pending()
	if len(pending) == 0 {
		return true
	}
	n, err := w.socketWriter.Write(pending)
	w.rewriter.Sent(n)
	return err == nil
}

// Write returns how much of p was taken: less than all of it only with an error,
// because gVisor takes anything else for a bug.
func (w *requestWriter) Write(p []byte) (int, error) {
	done := 0
	for w.flush() {
		rest := p[done:]
		if len(rest) == 0 {
			return done, nil
		}
		if n := w.rewriter.Body(rest); n > 0 {
			// As it is, without a copy.
			n, err := w.socketWriter.Write(rest[:n])
			w.rewriter.Passed(n)
			done += n
			if err != nil {
				return done, err
			}
			continue
		}
		n, why := w.rewriter.Translate(rest)
		done += n
		if why != 0 {
			w.why, w.errno = why, unix.EPROTO
			break
		}
	}
	return done, w.errno
}

// translateUp is moveUp for a flow whose requests are translated.
func (f *Flow) translateUp() unix.Errno {
	w := requestWriter{socketWriter: socketWriter{fd: f.fd, wire: f.Wire}, rewriter: f.HTTP}
	// The endpoint may have nothing more, which would bring a Write.
	w.flush()
	errno := f.moveUpBy(&w, &w.socketWriter)
	if f.refused = w.why; w.why != 0 {
		// The upstream has not failed; what it may still send is not waited for.
		f.emptied = true
	}
	return errno
}

// statusLength is the length of the beginning of an answer up to its status.
const statusLength = len("HTTP/1.1 407")

// peek reads the beginning of what comes from the upstream, and leaves it to be moved.
func (f *Flow) peek(p []byte) (int, unix.Errno) {
	if f.Wire == nil {
		n, _, err := unix.Recvfrom(f.fd, p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != nil {
			return 0, err.(unix.Errno)
		}
		return n, 0
	}
	n, errno := f.Wire.Read(p)
	if n > 0 {
		f.leftover = slices.Clone(p[:n])
	}
	return n, errno
}

// firstAnswer looks at the beginning of the first answer.
// A 407 would have the app ask its user for a password that is ours.
func (f *Flow) firstAnswer() unix.Errno {
	var start [statusLength]byte
	n, errno := f.peek(start[:])
	if errno == unix.EAGAIN {
		return unix.EAGAIN
	}
	// What is not whole is not looked at again, and a socket that failed fails
	// again where it is read.
	f.answered = true
	if errno == 0 && n == statusLength && bytes.HasPrefix(start[:], []byte("HTTP/1.")) && bytes.HasSuffix(start[:], []byte(" 407")) {
		f.refused = plainhttp.Login
		return unix.EPROTO
	}
	return 0
}
