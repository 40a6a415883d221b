// Package sockdiag asks the kernel whose a TCP socket is, by sock_diag(7).
package sockdiag

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The formats of linux/sock_diag.h and linux/inet_diag.h: the kernel's byte order, but
// network byte order for addresses and ports.
const (
	sockDiagByFamily = 20
	requestSize      = unix.SizeofNlMsghdr + 56 // struct inet_diag_req_v2
	answerSize       = unix.SizeofNlMsghdr + 72 // struct inet_diag_msg
	cgroupAttribute  = 21

	localPort  = unix.SizeofNlMsghdr + 4
	remotePort = localPort + 2
	uidPlace   = unix.SizeofNlMsghdr + 64
	inodePlace = uidPlace + 4
)

// Asker asks about one socket at a time. It belongs to one thread.
type Asker struct {
	fd     int
	number uint32
	answer [1024]byte
}

// New makes an asker about the sockets of this network namespace.
func New() (*Asker, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	return &Asker{fd: fd}, nil
}

// Close closes the asker's socket.
func (a *Asker) Close() { _ = unix.Close(a.fd) }

// Ask finds the socket that connects, or is connected, from source to destination: the
// user and the control group (0 if the kernel does not tell) that made it.
//
// device is the index of the interface that the packets leave by, for a socket that is
// bound to it; 0 for none.
func (a *Asker) Ask(source, destination netip.AddrPort, device uint32) (uid uint32, cgroup uint64, found bool) {
	a.number++
	request := a.request(source, destination, device)
	if err := unix.Sendto(a.fd, request[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, 0, false
	}
	// The kernel has answered when sendto returns; an older answer may be in front.
	for {
		n, _, err := unix.Recvfrom(a.fd, a.answer[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, 0, false
		}
		if n >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint32(a.answer[8:]) == a.number {
			return read(a.answer[:n], source.Port(), destination.Port())
		}
	}
}

func (a *Asker) request(source, destination netip.AddrPort, device uint32) (b [requestSize]byte) {
	native := binary.NativeEndian
	native.PutUint32(b[0:], requestSize)
	native.PutUint16(b[4:], sockDiagByFamily)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST)
	native.PutUint32(b[8:], a.number)
	b[16] = unix.AF_INET
	if source.Addr().Is6() {
		b[16] = unix.AF_INET6
	}
	b[17] = unix.IPPROTO_TCP
	native.PutUint32(b[20:], 0xffffffff) // any state
	binary.BigEndian.PutUint16(b[24:], source.Port())
	binary.BigEndian.PutUint16(b[26:], destination.Port())
	copy(b[28:44], source.Addr().AsSlice())
	copy(b[44:60], destination.Addr().AsSlice())
	native.PutUint32(b[60:], device)
	native.PutUint64(b[64:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// read reads an answer. For a connection without a socket the kernel finds one that
// listens on its port instead, which has no peer, or the remains of an earlier
// connection, which are no file any more.
func read(b []byte, local, remote uint16) (uid uint32, cgroup uint64, found bool) {
	native := binary.NativeEndian
	if native.Uint16(b[4:]) != sockDiagByFamily || len(b) < answerSize {
		return 0, 0, false
	}
	if binary.BigEndian.Uint16(b[localPort:]) != local || binary.BigEndian.Uint16(b[remotePort:]) != remote ||
		native.Uint32(b[inodePlace:]) == 0 {
		return 0, 0, false
	}
	for rest := b[answerSize:]; len(rest) >= unix.SizeofRtAttr; {
		size, kind := int(native.Uint16(rest)), native.Uint16(rest[2:])
		if size < unix.SizeofRtAttr || size > len(rest) {
			break
		}
		if kind == cgroupAttribute && size >= unix.SizeofRtAttr+8 {
			cgroup = native.Uint64(rest[unix.SizeofRtAttr:])
		}
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	return native.Uint32(b[uidPlace:]), cgroup, true
}
