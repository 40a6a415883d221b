// Package lent has connections inside TLS of which Python holds an end of a socket pair, so
// that it can speak in them without TLS: handshakes of which more than the good way is needed,
// and connections that wait.
//
// Rules
//   - All of this is the process's and no engine's: an upstream has no engine, and neither
//     has the doctor.
//   - The first thing to be read from a lent end that Secure has made is tlswire.Message.
//   - A relay in the loop's goroutine moves the bytes, until Python closes its end, or until
//     Reclaim takes the wire out of it, with all that is on the way.
//   - A socket pair knows no reset: a wire that fails is an end for Python. A flow never
//     goes through a pair.
package lent

import (
	"crypto/tls"
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/tlswire"
)

// all are the relays by the cookie of the lent end's socket, which no other socket ever has:
// the number of an fd that Python has closed may be another socket's by now.
var all struct {
	sync.Mutex
	loop   *carry.Loop // from the first one on
	relays map[uint64]*relay
	count  atomic.Int64
}

// Secure begins TLS on a connected socket, or in the wire if it is a lent end, and returns an
// end that is lent for it. It owns fd from here on. early was received on it already.
func Secure(fd int, early []byte, config *tls.Config) (end int, err error) {
	leg := Reclaim(fd)
	below := leg.Wire
	early = append(early, leg.Leftover...)
	leg.Wire, leg.Leftover = nil, nil
	r, end, err := lend(leg)
	if err != nil {
		return -1, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handshake = tlswire.Begin(r.fd, below, early, config, func(wire *tlswire.Wire, err error) {
		r.shaken(wire, err, config.ServerName)
	})
	return r.watch(end)
}

// Lend returns an end that is lent for a wire on a socket. It owns both from here on.
func Lend(fd int, wire *tlswire.Wire) (end int, err error) {
	r, end, err := lend(Leg{FD: fd, Wire: wire})
	if err != nil {
		return -1, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.watch(end)
}

func lend(leg Leg) (r *relay, end int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		leg.close()
		return nil, -1, err
	}
	r = &relay{near: fds[0], fd: leg.FD, wire: leg.Wire, down: leg.Leftover}
	all.Lock()
	defer all.Unlock()
	if all.loop == nil {
		if all.loop, err = carry.NewLoop(math.MaxInt64); err == nil {
			all.relays = make(map[uint64]*relay)
		}
	}
	if err == nil {
		r.cookie, err = unix.GetsockoptUint64(fds[1], unix.SOL_SOCKET, unix.SO_COOKIE)
	}
	if err != nil {
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		leg.close()
		return nil, -1, err
	}
	r.loop = all.loop
	all.relays[r.cookie] = r
	all.count.Add(1)
	return r, fds[1], nil
}

// find returns nil for what is no lent end.
func find(end int) *relay {
	if all.count.Load() == 0 {
		return nil
	}
	cookie, err := unix.GetsockoptUint64(end, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return nil
	}
	all.Lock()
	defer all.Unlock()
	return all.relays[cookie]
}

func forget(r *relay) {
	all.Lock()
	defer all.Unlock()
	delete(all.relays, r.cookie)
	all.count.Add(-1)
}

// Leg is a connection, with the wire on it, or nil.
type Leg struct {
	FD       int
	Wire     *tlswire.Wire
	Leftover []byte // was received and comes first
}

func (l *Leg) close() {
	_ = unix.SetsockoptLinger(l.FD, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(l.FD)
}

// Reclaim returns the connection that an end was lent for, which is closed; any other fd is
// returned as it is. What Python has written is in the wire then.
func Reclaim(end int) Leg {
	r := find(end)
	if r == nil {
		return Leg{FD: end}
	}
	return r.reclaim(end)
}

// Socket duplicates the socket that a lent end leads to. ENOENT: it is no lent end.
func Socket(end int) (fd int, err error) {
	r := find(end)
	if r == nil {
		return -1, unix.ENOENT
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return -1, unix.ENOENT
	}
	return unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 0)
}
