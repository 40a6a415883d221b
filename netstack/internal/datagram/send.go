package datagram

import (
	"encoding/binary"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/link"
)

const (
	// sendRoom is the memory of a sender in bytes: enough for the largest
	// datagram and its header.
	sendRoom = 128 << 10

	// togetherLimit is the most that one send of several datagrams holds, in
	// bytes: with UDP's header it is an IP packet to the kernel.
	togetherLimit = 65000

	// singleAfter is how many such sends in a row may fail before an association
	// stops using them.
	singleAfter = 3

	udpSegment = 103 // UDP_SEGMENT of linux/udp.h
)

// mmsghdr is struct mmsghdr of socket(7)'s sendmmsg and recvmmsg.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// sockaddr has room for both families.
type sockaddr = unix.RawSockaddrInet6

// sender collects datagrams of one association and sends them with few calls. It
// has one user at a time.
type sender struct {
	table       *Table
	association *Association
	buf         []byte // the datagrams, with headers, one behind the other
	n           int
	ends        [link.MaxTogether]int // of each, in buf
	to          [link.MaxTogether]link.End

	names    [link.MaxTogether]sockaddr
	iovs     [link.MaxTogether]unix.Iovec
	messages [link.MaxTogether]mmsghdr
	control  [24]byte // of one int: struct cmsghdr and padding
}

var senders = sync.Pool{New: func() any { return new(sender) }}

// add takes one datagram.
func (s *sender) add(a *Association, destination *link.End, payload []byte) {
	if s.association != a || s.n == len(s.ends) || len(s.buf)+headerLimit+len(payload) > sendRoom {
		s.flush()
		s.association = a
	}
	if s.buf == nil {
		s.buf = make([]byte, 0, sendRoom)
	}
	switch {
	case a.name != "":
		s.buf = appendNameHeader(s.buf, a.name, destination.Port)
	case a.leg == Socks5:
		s.buf = appendHeader(s.buf, destination)
	}
	s.buf = append(s.buf, payload...)
	s.ends[s.n] = len(s.buf)
	s.to[s.n] = *destination
	s.n++
	s.table.BytesUp.Add(uint64(len(payload)))
}

func (s *sender) start(i int) int {
	if i == 0 {
		return 0
	}
	return s.ends[i-1]
}

func (s *sender) size(i int) int { return s.ends[i] - s.start(i) }

// flush sends all that was added.
func (s *sender) flush() {
	if s.n == 0 {
		return
	}
	a := s.association
	a.io.Lock()
	sent := 0
	for i := 0; i < s.n && a.fd >= 0; {
		j := s.together(i)
		if j-i > 1 && !a.single && s.sendTogether(i, j) {
			sent += j - i
			i = j
			continue
		}
		if j-i == 1 || a.single {
			j = s.apart(i)
		}
		done, goOn := s.sendEach(i, j)
		sent += done
		if !goOn {
			break
		}
		i = j
	}
	a.io.Unlock()
	s.table.Up.Add(uint64(sent))
	s.table.DropSend.Add(uint64(s.n - sent))
	s.buf, s.n = s.buf[:0], 0
	s.association = nil
}

// together returns the end of the run from i on that one send can carry: all of
// one size but the last, which may be shorter, and to one destination.
func (s *sender) together(i int) int {
	size := s.size(i)
	j := i + 1
	for ; j < s.n; j++ {
		next := s.size(j)
		if next > size || next == 0 || s.ends[j]-s.start(i) > togetherLimit ||
			s.association.leg == Direct && s.to[j] != s.to[i] {
			break
		}
		if next < size {
			return j + 1
		}
	}
	return j
}

// apart returns the end of those from i on that are sent one by one.
func (s *sender) apart(i int) int {
	if s.association.single {
		return s.n
	}
	j := i + 1
	for j < s.n && s.together(j) == j+1 {
		j++
	}
	return j
}

// name fills in the destination of datagram i, or nothing on a connected socket.
func (s *sender) name(i int, m *unix.Msghdr) {
	if s.association.leg != Direct {
		m.Name, m.Namelen = nil, 0
		return
	}
	to, n := &s.to[i], &s.names[i]
	m.Name = (*byte)(unsafe.Pointer(n))
	n.Port = to.Port>>8 | to.Port<<8
	if to.Six() {
		n.Family, n.Flowinfo, n.Addr, n.Scope_id = unix.AF_INET6, 0, to.Host, 0
		m.Namelen = unix.SizeofSockaddrInet6
		return
	}
	four := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
	four.Family = unix.AF_INET
	copy(four.Addr[:], to.Host[:4])
	m.Namelen = unix.SizeofSockaddrInet4
}

// sendTogether sends a run with one call (UDP_SEGMENT), and tells whether that
// worked.
func (s *sender) sendTogether(i, j int) bool {
	m := &s.messages[0].header
	*m = unix.Msghdr{Iov: &s.iovs[0]}
	m.SetIovlen(1)
	s.name(i, m)
	s.iovs[0].Base = &s.buf[s.start(i)]
	s.iovs[0].SetLen(s.ends[j-1] - s.start(i))
	c := (*unix.Cmsghdr)(unsafe.Pointer(&s.control[0]))
	c.Level, c.Type = unix.IPPROTO_UDP, udpSegment
	c.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(s.control[unix.CmsgLen(0):], uint16(s.size(i)))
	m.Control = &s.control[0]
	m.SetControllen(unix.CmsgSpace(2))
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.association.fd), uintptr(unsafe.Pointer(m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	a := s.association
	if errno == 0 {
		a.failures = 0
		return true
	}
	// This is the only time that the kernel says so.
	if a.leg == Socks5 && ends(errno) {
		a.fail(errno)
	}
	if a.leg == Socks5 && errno == unix.ECONNREFUSED {
		s.table.refused(a)
	}
	// No checksum offload on the way (EIO), larger than the path takes (EINVAL,
	// EMSGSIZE): each on its own may still go.
	if errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE {
		if a.failures++; a.failures >= singleAfter {
			a.single = true
		}
	}
	return false
}

// sendEach sends datagrams one by one with one call, or a few calls if some fail. It
// returns how many were sent, and whether it makes sense to go on.
func (s *sender) sendEach(i, j int) (sent int, goOn bool) {
	for k := i; k < j; k++ {
		m := &s.messages[k].header
		*m = unix.Msghdr{Iov: &s.iovs[k]}
		s.iovs[k].Base = nil
		if s.size(k) > 0 {
			s.iovs[k].Base = &s.buf[s.start(k)]
		}
		s.iovs[k].SetLen(s.size(k))
		m.SetIovlen(1)
		s.name(k, m)
	}
	again := false
	for i < j {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.association.fd),
			uintptr(unsafe.Pointer(&s.messages[i])), uintptr(j-i), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			sent += int(n)
			i += int(n)
			again = false
			continue
		}
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.ENOMEM:
			return sent, false // full: dropped, as on any link
		case errno == unix.EMSGSIZE:
		case s.association.leg == Socks5:
			if ends(errno) {
				s.association.fail(errno)
				return sent, false
			}
			if errno == unix.ECONNREFUSED {
				s.table.refused(s.association)
				if !again {
					again = true // an earlier datagram was refused, not this one
					continue
				}
			}
		case !again:
			// It may be an error that came back for an earlier datagram; the error
			// queue has that one, too.
			again = true
			continue
		default:
			if how := refusalOf(errno); how != 0 {
				s.table.tell(s.association, &s.to[i], how)
			}
		}
		again = false
		i++
	}
	return sent, true
}

// ends tells whether an error is the end of a SOCKS5 leg. A firewall's refusal, a
// route that is missing for a while, and a closed port of which a proxy forwards the
// error, are about one datagram only; the leg is an outside address that calls depend
// on. It ends with its control connection (RFC 1928, section 7).
func ends(errno unix.Errno) bool {
	switch errno {
	case unix.EPERM, unix.EACCES, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EHOSTDOWN,
		unix.ECONNREFUSED, unix.EMSGSIZE, unix.EAGAIN, unix.EINTR, unix.ENOBUFS, unix.ENOMEM, unix.EIO, unix.EINVAL:
		return false
	}
	return true
}

// refusalOf is what the app sees of a socket's error, 0 for nothing.
func refusalOf(errno unix.Errno) Refusal {
	switch errno {
	case unix.ECONNREFUSED:
		return RefusePortUnreachable
	case unix.EHOSTUNREACH, unix.EHOSTDOWN:
		return RefuseHostUnreachable
	case unix.ENETUNREACH, unix.ENETDOWN:
		return RefuseNetUnreachable
	case unix.EACCES, unix.EPERM:
		return RefuseProhibited
	}
	return 0
}

// tell lets the app know that a destination cannot be reached.
func (t *Table) tell(a *Association, destination *link.End, how Refusal) {
	t.mu.Lock()
	source := a.source
	known := t.knownAs(a, destination, &source)
	f := t.flows[key{source, known}]
	t.mu.Unlock()
	if f != nil {
		t.config.Reject(&source, &known, how)
	}
}
