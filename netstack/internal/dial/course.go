// Package dial opens one leg by a course: it connects and speaks the good way of a handshake.
//
// Rules
//   - It knows nothing but the good way. Whatever else happens ends the dial, with all
//     bytes that were received: Python's handshake class, which is the specification, goes
//     on from there.
//   - What is called good here, Python's class calls done, with the same bytes left over.
package dial

import (
	"crypto/tls"
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/tlswire"
)

// Course is what all dials of one upstream share. It does not change.
type Course struct {
	mark      int
	timeout   time.Duration
	stallTime time.Duration // TCP_USER_TIMEOUT; 0: none
	patience  time.Duration // 0: for ever
	tls       *tls.Config   // nil: none
	addresses []address
	steps     []step
}

// address is a struct sockaddr as connect(2) takes it.
type address struct {
	family int
	raw    []byte
}

// step is one message of a handshake, and its answer.
type step struct {
	send        []byte
	own         bool // the flow's own bytes follow
	mask, value []byte
	tail        tail
}

// tail is what follows the fixed bytes of an answer.
type tail uint8

const (
	tailNone         tail = 0
	tailSocksAddress tail = 1 // of SOCKS5; its type is the last of the fixed bytes
	tailHTTPHead     tail = 2 // the answer is a head, to which the fixed bytes belong
	tails                 = 3
)

const (
	courseHeader  = 24
	addressHeader = 4
	stepHeader    = 8

	// addressLimit and stepLimit are many more than there is use for.
	addressLimit = 64
	stepLimit    = 16

	// socksFixed is how many bytes of a SOCKS5 reply come before the address (RFC 1928,
	// section 6).
	socksFixed = 4
)

// The sizes of a struct sockaddr.
const (
	sizeInet4   = unix.SizeofSockaddrInet4
	sizeInet6   = unix.SizeofSockaddrInet6
	sizeUnixMin = 3 // the family and one byte
	sizeUnix    = unix.SizeofSockaddrUnix
)

// Parse makes a course of the form that ns_course has in netstack.h. EINVAL: it is not by
// the letter.
func Parse(blob []byte) (*Course, error) {
	r := reader{left: blob}
	header := r.take(courseHeader)
	if header == nil {
		return nil, unix.EINVAL
	}
	order := binary.NativeEndian
	milliseconds := func(at int) time.Duration {
		return time.Duration(order.Uint32(header[at:])) * time.Millisecond
	}
	c := &Course{
		mark:    int(order.Uint32(header)),
		timeout: milliseconds(4), stallTime: milliseconds(8), patience: milliseconds(12),
	}
	addresses, steps := int(order.Uint16(header[20:])), int(order.Uint16(header[22:]))
	if c.timeout == 0 || addresses == 0 || addresses > addressLimit || steps > stepLimit {
		return nil, unix.EINVAL
	}
	if number := order.Uint32(header[16:]); number != 0 {
		if c.tls = tlswire.Numbered(number); c.tls == nil {
			return nil, unix.EINVAL
		}
	}
	for range addresses {
		a, ok := r.address()
		if !ok {
			return nil, unix.EINVAL
		}
		c.addresses = append(c.addresses, a)
	}
	for range steps {
		s, ok := r.step()
		if !ok {
			return nil, unix.EINVAL
		}
		c.steps = append(c.steps, s)
	}
	if len(r.left) > 0 {
		return nil, unix.EINVAL
	}
	return c, nil
}

// reader takes a course apart. What it returns are copies.
type reader struct{ left []byte }

// take returns nil if there are not so many bytes.
func (r *reader) take(n int) []byte {
	if n > len(r.left) {
		return nil
	}
	taken := append(make([]byte, 0, n), r.left[:n]...)
	r.left = r.left[n:]
	return taken
}

func (r *reader) address() (a address, ok bool) {
	header := r.take(addressHeader)
	if header == nil {
		return a, false
	}
	a.family = int(binary.NativeEndian.Uint16(header))
	size := int(binary.NativeEndian.Uint16(header[2:]))
	switch a.family {
	case unix.AF_INET:
		ok = size == sizeInet4
	case unix.AF_INET6:
		ok = size == sizeInet6
	case unix.AF_UNIX:
		ok = sizeUnixMin <= size && size <= sizeUnix
	}
	if !ok {
		return a, false
	}
	a.raw = r.take(size)
	return a, a.raw != nil && int(binary.NativeEndian.Uint16(a.raw)) == a.family
}

func (r *reader) step() (s step, ok bool) {
	header := r.take(stepHeader)
	if header == nil {
		return s, false
	}
	own, kind := header[0], tail(header[1])
	send, match := binary.NativeEndian.Uint16(header[2:]), binary.NativeEndian.Uint16(header[4:])
	switch {
	case own > 1, kind >= tails, binary.NativeEndian.Uint16(header[6:]) != 0:
		return s, false
	case kind == tailSocksAddress && match != socksFixed:
		return s, false
	}
	s.own, s.tail = own == 1, kind
	s.send, s.mask, s.value = r.take(int(send)), r.take(int(match)), r.take(int(match))
	if s.send == nil || s.mask == nil || s.value == nil {
		return s, false
	}
	for i, m := range s.mask {
		if s.value[i]&^m != 0 {
			return s, false // nothing is like that
		}
	}
	return s, true
}

// expects tells whether an answer is waited for.
func (s *step) expects() bool { return len(s.mask) > 0 || s.tail != tailNone }
