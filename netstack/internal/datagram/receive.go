package datagram

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/link"
)

const (
	// slots is how many messages one call receives, and rounds how many calls one
	// association gets before others have their turn.
	slots  = 32
	rounds = 4

	// slotRoom holds the longest message: a datagram, or several that the kernel
	// put together (UDP_GRO).
	slotRoom = 64 << 10

	// hearOnly is how long arriving datagrams alone keep an association alive, in
	// milliseconds: its app may be gone, and its port may soon belong to another
	// (RFC 4787, REQ-6).
	hearOnly = 5 * 60 * 1000

	// errorsLimit is how many errors of a socket are looked at in one turn.
	errorsLimit = 32
)

// receiver is what all associations of a loop read into.
type receiver struct {
	table  *Table
	writer *link.DatagramWriter

	room     []byte
	names    [slots]sockaddr
	iovs     [slots]unix.Iovec
	messages [slots]mmsghdr
	controls [slots][64]byte

	// Datagrams that go to the app in one write.
	source, destination link.End
	group               [link.MaxTogether][]byte
	count, bytes        int

	association *Association // that is at hand
	aliased     bool         // it has aliases
}

// Ready implements carry.Watcher.
func (a *Association) Ready(ready uint32) {
	if ready&unix.EPOLLERR != 0 && !a.receiver.errors(a) {
		return
	}
	if ready&unix.EPOLLIN != 0 {
		a.receiver.receive(a)
	}
}

// receive reads the datagrams that wait, within limits, and writes them to the app.
func (r *receiver) receive(a *Association) {
	t := r.table
	t.mu.Lock()
	if a.ended {
		t.mu.Unlock()
		return
	}
	t.hear(a, t.Look())
	source, host, only := a.source, a.host, a.only
	r.association = a
	r.aliased = len(a.aliases) > 0
	if a.destinations != 1 {
		only = link.End{}
	}
	t.mu.Unlock()
	for range rounds {
		n, errno := r.read(a.fd)
		if errno == unix.ECONNREFUSED && a.leg == Socks5 {
			t.refused(a)
			continue // datagrams may wait behind it
		}
		if errno != 0 {
			if a.leg == Socks5 && ends(errno) {
				a.fail(errno)
			}
			return
		}
		for i := range n {
			if a.name != "" {
				r.takeNamed(i, source, host)
			} else {
				r.take(a, i, source, only)
			}
		}
		r.flush()
		if n < slots {
			return
		}
	}
}

// hear notes that a datagram arrived. Called with mu held.
func (t *Table) hear(a *Association, now int64) {
	if now-a.sent < hearOnly {
		t.touchAssociation(a, now)
	}
}

func (r *receiver) read(fd int) (int, unix.Errno) {
	if r.room == nil {
		r.room = make([]byte, slots*slotRoom)
	}
	for i := range r.messages {
		m := &r.messages[i]
		r.iovs[i].Base = &r.room[i*slotRoom]
		r.iovs[i].SetLen(slotRoom)
		m.header = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&r.names[i])), Namelen: unix.SizeofSockaddrInet6, Iov: &r.iovs[i], Control: &r.controls[i][0]}
		m.header.SetIovlen(1)
		m.header.SetControllen(len(r.controls[i]))
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.messages[0])), slots, unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// take handles one message, which may hold several datagrams.
func (r *receiver) take(a *Association, i int, source, only link.End) {
	message := r.room[i*slotRoom : i*slotRoom+int(r.messages[i].length)]
	each(message, r.segment(i), func(p []byte) {
		peer, ok := link.End{}, true
		if a.leg == Socks5 {
			peer, p, ok = parseHeader(p)
			if ok && peer.Family == 0 {
				// A name. Only one can be meant where there is only one.
				port := peer.Port
				peer, ok = only, only.Family != 0 && only.Port == port
			}
		} else {
			peer = r.peer(i)
		}
		destination := source
		ok = ok && peer.Port != 0 && len(p) <= payloadLimit && r.table.canBePeer(&peer)
		if ok && (a.shared || r.aliased) {
			r.table.mu.Lock()
			if a.shared {
				destination, ok = r.table.asker(a, &peer, p)
			}
			peer = r.table.knownAs(a, &peer, &destination)
			r.table.mu.Unlock()
		}
		if !ok || peer.Family != destination.Family {
			r.table.DropReply.Add(1)
			return
		}
		r.put(&peer, &destination, p)
	})
}

// takeNamed does so for an association with a name. Whatever address the relay found for
// the name and puts into the header, the app sees the one it knows.
func (r *receiver) takeNamed(i int, source, host link.End) {
	message := r.room[i*slotRoom : i*slotRoom+int(r.messages[i].length)]
	each(message, r.segment(i), func(p []byte) {
		peer, p, ok := parseHeader(p)
		if !ok || peer.Port == 0 || len(p) > payloadLimit || host.Family == 0 {
			r.table.DropReply.Add(1)
			return
		}
		host.Port = peer.Port
		r.put(&host, &source, p)
	})
}

// canBePeer tells whether a datagram of a leg may come from this address: no host
// sends from loopback, multicast or the unspecified address, and only this engine
// sends from the gateway's.
func (t *Table) canBePeer(e *link.End) bool {
	if e.Six() && e.Host == t.config.Gateway6 || !e.Six() && e.Host == t.config.Gateway4 {
		return false
	}
	if e.Six() {
		return e.Host[0] != 0xff && (binary.BigEndian.Uint64(e.Host[:8]) != 0 || binary.BigEndian.Uint64(e.Host[8:]) > 1)
	}
	return e.Host[0] != 0 && e.Host[0] != 127 && e.Host[0] < 224
}

// segment is the size of each datagram of message i when there are several.
func (r *receiver) segment(i int) int {
	control := r.controls[i][:r.messages[i].header.Controllen]
	if len(control) < unix.CmsgLen(4) {
		return 0
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if c.Level != unix.IPPROTO_UDP || c.Type != udpGRO {
		return 0
	}
	return int(binary.NativeEndian.Uint32(control[unix.CmsgLen(0):]))
}

// peer is the sender of message i.
func (r *receiver) peer(i int) link.End { return endOfName(&r.names[i]) }

func endOfName(n *sockaddr) (e link.End) {
	e.Port = n.Port>>8 | n.Port<<8
	switch n.Family {
	case unix.AF_INET:
		e.Family = 4
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		copy(e.Host[:4], four.Addr[:])
	case unix.AF_INET6:
		e.Family, e.Host = 6, n.Addr
		e = unmapped(e)
	}
	return e
}

// put collects datagrams that can go in one write, and writes the others.
func (r *receiver) put(source, destination *link.End, p []byte) {
	if r.count > 0 {
		size := len(r.group[0])
		if r.source != *source || r.destination != *destination || len(p) > size || len(p) == 0 ||
			r.count == len(r.group) || r.bytes+len(p) > togetherLimit || !r.writer.Together() {
			r.flush()
		}
	}
	t := r.table
	t.Down.Add(1)
	t.BytesDown.Add(uint64(len(p)))
	if !r.writer.Fits(len(p), source.Six()) {
		r.heard(source, destination, len(p))
		t.config.Fragment(source, destination, p)
		return
	}
	r.source, r.destination = *source, *destination
	r.group[r.count] = p
	r.count++
	r.bytes += len(p)
	if len(p) < len(r.group[0]) || len(p) == 0 {
		r.flush() // a shorter one is the last
	}
}

// flush writes what was collected.
func (r *receiver) flush() {
	if r.count == 0 {
		return
	}
	r.heard(&r.source, &r.destination, r.bytes)
	r.writer.Write(&r.source, &r.destination, r.group[:r.count]...)
	clear(r.group[:r.count])
	r.count, r.bytes = 0, 0
}

// toApp writes one datagram to the app.
func (t *Table) toApp(w *link.DatagramWriter, source, destination *link.End, p []byte) {
	if !w.Fits(len(p), source.Six()) {
		t.config.Fragment(source, destination, p)
		return
	}
	w.Write(source, destination, p)
}

// errors handles the errors of an association's socket, and tells whether the
// association goes on.
func (r *receiver) errors(a *Association) bool {
	if a.leg == Socks5 {
		errno, _ := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if unix.Errno(errno) == unix.ECONNREFUSED {
			r.table.refused(a)
		}
		if errno == 0 || !ends(unix.Errno(errno)) {
			return true
		}
		a.fail(unix.Errno(errno))
		return false
	}
	for range errorsLimit {
		if !r.oneError(a) {
			// An error without an entry in the queue would be reported forever.
			_, _ = unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR)
			break
		}
	}
	return true
}

// oneError takes one error off a direct leg's socket: the destination it is about
// stands where a sender's address would (ip(7), IP_RECVERR).
func (r *receiver) oneError(a *Association) bool {
	var name sockaddr
	var control [512]byte
	var payload [1]byte
	iov := unix.Iovec{Base: &payload[0]}
	iov.SetLen(len(payload))
	m := unix.Msghdr{Name: (*byte)(unsafe.Pointer(&name)), Namelen: unix.SizeofSockaddrInet6, Iov: &iov, Control: &control[0]}
	m.SetIovlen(1)
	m.SetControllen(len(control))
	_, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(a.fd), uintptr(unsafe.Pointer(&m)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if errno != 0 {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(control[:m.Controllen])
	if err != nil {
		return true
	}
	for _, c := range messages {
		four := c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_RECVERR
		six := c.Header.Level == unix.IPPROTO_IPV6 && c.Header.Type == unix.IPV6_RECVERR
		if !four && !six || len(c.Data) < 4 {
			continue
		}
		// struct sock_extended_err begins with the errno.
		destination := endOfName(&name)
		if how := refusalOf(unix.Errno(binary.NativeEndian.Uint32(c.Data))); how != 0 {
			r.table.tell(a, &destination, how)
		}
	}
	return true
}
