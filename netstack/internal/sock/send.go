// Package sock sends on non-blocking sockets.
package sock

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Send sends what the socket takes, and returns how much that was; EAGAIN if it is less than
// all, because the socket is full.
func Send(fd int, p []byte) (int, unix.Errno) {
	done := 0
	for done < len(p) {
		// Raw: the call never blocks. MSG_NOSIGNAL: a SIGPIPE would reach Python's process.
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[done])),
			uintptr(len(p)-done), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			done += int(n)
		case unix.EINTR:
		default:
			return done, errno
		}
	}
	return done, 0
}
