package carry

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Wire is a protocol below the bytes that a flow carries, such as TLS. One step at a time
// calls it.
type Wire interface {
	// Read reads plain bytes without waiting: 0 and no errno at the end, which it tells
	// again in the next call. EAGAIN: nothing is there, and the socket has been read
	// until it was empty.
	Read(p []byte) (int, unix.Errno)
	// Write takes all of p, or nothing and EAGAIN. Perhaps only Flush sends it.
	Write(p []byte) (int, unix.Errno)
	// Flush sends what Write has taken and the socket has not. EAGAIN: not all of it.
	Flush() unix.Errno
	// CloseWrite says to the other side that nothing more will be written. Flush sends that.
	CloseWrite()
}

var largeBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// readWire moves what can be read at a time: a wire gives its bytes in small records, and
// each write makes a segment. 0 is the upstream's end.
func (f *Flow) readWire() (int, unix.Errno) {
	large := largeBuffers.Get().(*[readSize]byte)
	defer largeBuffers.Put(large)
	n := 0
	for n < len(large) {
		m, errno := f.Wire.Read(large[n:])
		if m == 0 && n > 0 {
			break // the next call finds the same
		}
		if errno != 0 {
			return 0, f.unreadable(errno)
		}
		if m == 0 {
			return 0, 0
		}
		n += m
	}
	f.flushed() // TLS answers some records by itself
	written, errno := f.write(large[:n])
	if written < n {
		f.leftover = slices.Clone(large[written:n])
	}
	return n, errno
}
