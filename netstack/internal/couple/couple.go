// Package couple carries bytes between two sockets of the kernel's, such as a connection to a
// published port of nanotun run and the one to its command.
//
// Rules
//   - All of this is the process's and no engine's.
//   - An end on one side becomes an end on the other, whose own bytes go on; an error becomes a
//     reset. Either socket may still be connecting.
//   - A couple holds a buffer only while one side takes less than the other sends.
package couple

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/sock"
)

// bufferSize is the most bytes that are read at a time.
const bufferSize = 64 << 10

// turn is how many reads a couple may make before it lets others work, which share its thread.
const turn = 16

const watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// all are the couples that are not over.
var all struct {
	sync.Mutex
	loop  *carry.Loop // from the first one on
	count int
}

// couple implements carry.Watcher for both sockets. Only the loop's goroutine uses it, once it
// is watched.
type couple struct {
	loop   *carry.Loop
	fds    [2]int
	ways   [2]way // from the socket of that number to the other one
	again  bool   // has asked to be called again
	over   bool
	failed bool
}

type way struct {
	rest []byte // was read, and is not yet taken
	done bool   // the end was passed on
}

// Count is how many couples there are that are not over.
func Count() int {
	all.Lock()
	defer all.Unlock()
	return all.count
}

// Join carries bytes between two stream sockets, which it owns from here on, until both have
// ended or one fails.
func Join(a, b int) error {
	all.Lock()
	defer all.Unlock()
	if all.loop == nil {
		loop, err := carry.NewLoop(math.MaxInt64)
		if err != nil {
			reset(a)
			reset(b)
			return err
		}
		all.loop = loop
	}
	for _, fd := range []int{a, b} {
		// Bytes were put together by those who sent them.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetNonblock(fd, true)
	}
	c := &couple{loop: all.loop, fds: [2]int{a, b}}
	all.count++
	c.loop.Call(c.begin)
	return nil
}

func (c *couple) begin() {
	for _, fd := range c.fds {
		if c.loop.WatchFor(fd, c, watched) != nil {
			c.failed = true
			c.end()
			return
		}
	}
	c.move()
}

// Ready implements carry.Watcher.
func (c *couple) Ready(events uint32) {
	// The other socket's readiness, in the same turn, may have ended it.
	if c.over {
		return
	}
	c.move()
	if !c.over && events&unix.EPOLLERR != 0 {
		// Nobody reads from a socket whose bytes are not taken.
		c.failed = true
		c.end()
	}
}

// move moves what can be moved.
func (c *couple) move() {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	more := c.carry(0, buffer)
	more = c.carry(1, buffer) || more
	switch {
	case c.failed || c.ways[0].done && c.ways[1].done:
		c.end()
	case more && !c.again:
		c.again = true
		c.loop.Call(func() {
			c.again = false
			c.Ready(0)
		})
	}
}

// carry moves bytes one way, and tells whether there may be more.
func (c *couple) carry(from int, buffer *[bufferSize]byte) bool {
	w, to := &c.ways[from], c.fds[1-from]
	for range turn {
		if w.done || c.failed {
			return false
		}
		n, errno := sock.Send(to, w.rest)
		if w.rest = w.rest[n:]; errno != 0 {
			c.failed = errno != unix.EAGAIN
			return false
		}
		w.rest = nil
		n, errno = carry.ReadSocket(c.fds[from], buffer[:])
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno != 0:
			c.failed = true
		case n == 0:
			w.done = true
			_ = unix.Shutdown(to, unix.SHUT_WR)
		default:
			sent, errno := sock.Send(to, buffer[:n])
			if sent < n {
				w.rest = append([]byte(nil), buffer[sent:n]...)
			}
			c.failed = errno != 0 && errno != unix.EAGAIN
		}
	}
	return true
}

func (c *couple) end() {
	c.over = true
	for _, fd := range c.fds {
		c.loop.Unwatch(fd)
		if c.failed {
			reset(fd)
		} else {
			_ = unix.Close(fd)
		}
	}
	all.Lock()
	all.count--
	all.Unlock()
}

// reset closes a socket so that its peer sees an error.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}
