package dial

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// open makes a socket for an address.
func (c *Course) open(a *address) (fd int, errno unix.Errno) {
	fd, err := unix.Socket(a.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, errnoOf(err)
	}
	if c.mark != 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, c.mark)
	}
	if err == nil && a.family != unix.AF_UNIX {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err == nil {
			err = c.limitStall(fd)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, errnoOf(err)
	}
	return fd, 0
}

// limitStall has the kernel give a TCP connection up after so long without progress in sending.
func (c *Course) limitStall(fd int) error {
	if c.stallTime == 0 {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(c.stallTime/time.Millisecond))
}

func connect(fd int, a *address) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a.raw[0])), uintptr(len(a.raw)))
	return errno
}

// isConnected tells whether a connect has succeeded.
func isConnected(fd int) bool {
	var name unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)))
	return errno == 0
}

// Close ends a connection that nobody wants any more, with a reset.
func Close(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

func errnoOf(err error) unix.Errno {
	if errno, ok := err.(unix.Errno); ok {
		return errno
	}
	return unix.EIO
}
