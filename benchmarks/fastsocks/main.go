// A SOCKS5 proxy that is meant to be no bottleneck: CONNECT to IP addresses without a
// password, an epoll loop for each core, no goroutine for a connection, and splice(2) for
// streams that are worth it.
//
//	go run main.go 127.0.0.1:1084
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	bufferSize = 64 << 10
	pipeSize   = 1 << 20

	// turn is how many reads one stream gets before the others of its loop.
	turn = 8

	soReusePort  = 15
	fSetPipeSize = 1031
	edge         = 1 << 31
	watched      = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge
)

// What a side of a connection waits for.
const (
	greeting = iota
	request
	connecting
	relaying
	closed
)

// side is one socket, and what was read from it but not yet written to the other one.
type side struct {
	fd      int
	state   int
	out     bool // to a destination, not from a client
	other   *side
	pending []byte // read, and not written to the other side
	pipe    [2]int // for a stream of many bytes; 0 if there is none
	piped   int    // bytes in it
	ended   bool   // it has sent its FIN
	told    bool   // and the other side has been shut down
	queued  bool
}

type loop struct {
	epoll, listener int
	sides           map[int32]*side
	again           []*side // have more to read
	buffer          [bufferSize]byte
}

func check(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "fastsocks: %s: %v\n", what, err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: fastsocks ADDRESS:PORT")
		os.Exit(2)
	}
	address, err := net.ResolveTCPAddr("tcp4", os.Args[1])
	check(os.Args[1], err)
	for range runtime.NumCPU() - 1 {
		go newLoop(address).run()
	}
	first := newLoop(address)
	fmt.Println("ready")
	first.run()
}

func newLoop(address *net.TCPAddr) *loop {
	l := &loop{sides: make(map[int32]*side)}
	var err error
	l.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	check("epoll", err)
	l.listener, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	check("socket", err)
	check("SO_REUSEADDR", syscall.SetsockoptInt(l.listener, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	check("SO_REUSEPORT", syscall.SetsockoptInt(l.listener, syscall.SOL_SOCKET, soReusePort, 1))
	where := syscall.SockaddrInet4{Port: address.Port}
	copy(where.Addr[:], address.IP.To4())
	check("bind", syscall.Bind(l.listener, &where))
	check("listen", syscall.Listen(l.listener, 4096))
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(l.listener)}
	check("epoll", syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, l.listener, &event))
	return l
}

func (l *loop) run() {
	runtime.LockOSThread()
	events := make([]syscall.EpollEvent, 256)
	for {
		timeout := -1
		if len(l.again) > 0 {
			timeout = 0
		}
		n, err := syscall.EpollWait(l.epoll, events, timeout)
		if err != nil && err != syscall.EINTR {
			check("epoll", err)
		}
		for i := range max(0, n) {
			if int(events[i].Fd) == l.listener {
				l.accept()
			} else if s := l.sides[events[i].Fd]; s != nil {
				l.ready(s)
			}
		}
		again := l.again
		l.again = nil
		for _, s := range again {
			s.queued = false
			if s.state == relaying {
				l.ready(s)
			}
		}
	}
}

func (l *loop) accept() {
	for {
		fd, _, err := syscall.Accept4(l.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		s := l.watch(fd, greeting)
		l.ready(s)
	}
}

func (l *loop) watch(fd, state int) *side {
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	s := &side{fd: fd, state: state}
	l.sides[int32(fd)] = s
	event := syscall.EpollEvent{Events: watched, Fd: int32(fd)}
	check("epoll", syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event))
	return s
}

func (l *loop) ready(s *side) {
	switch s.state {
	case greeting, request:
		l.negotiate(s)
	case connecting:
		if s.other.state == connecting {
			l.connected(s)
		}
	case relaying:
		l.move(s, s.other)
		if s.state == relaying {
			l.move(s.other, s)
		}
	}
}

// negotiate reads the greeting and the request, which may come together.
func (l *loop) negotiate(s *side) {
	n, errno := read(s.fd, l.buffer[:])
	if errno == syscall.EAGAIN {
		return
	}
	if errno != 0 || n == 0 {
		l.close(s, true)
		return
	}
	s.pending = append(s.pending, l.buffer[:n]...)
	if s.state == greeting {
		if len(s.pending) < 2 || len(s.pending) < 2+int(s.pending[1]) {
			return
		}
		s.pending = s.pending[2+int(s.pending[1]):]
		write(s.fd, []byte{5, 0})
		s.state = request
	}
	if len(s.pending) < 4 {
		return
	}
	size := net.IPv4len
	if s.pending[3] == 4 {
		size = net.IPv6len
	}
	if s.pending[1] != 1 || s.pending[3] != 1 && s.pending[3] != 4 {
		write(s.fd, []byte{5, 7, 0, 1, 0, 0, 0, 0, 0, 0})
		l.close(s, false)
		return
	}
	if len(s.pending) < 4+size+2 {
		return
	}
	address, rest := s.pending[4:4+size], s.pending[4+size+2:]
	port := int(s.pending[4+size])<<8 | int(s.pending[4+size+1])
	l.dial(s, address, port, rest)
}

func (l *loop) dial(s *side, address []byte, port int, rest []byte) {
	family := syscall.AF_INET
	var to syscall.Sockaddr
	if len(address) == net.IPv4len {
		to4 := &syscall.SockaddrInet4{Port: port}
		copy(to4.Addr[:], address)
		to = to4
	} else {
		family = syscall.AF_INET6
		to6 := &syscall.SockaddrInet6{Port: port}
		copy(to6.Addr[:], address)
		to = to6
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		l.close(s, true)
		return
	}
	err = syscall.Connect(fd, to)
	other := l.watch(fd, connecting)
	s.other, other.other, other.out = other, s, true
	s.state = connecting
	s.pending = append([]byte(nil), rest...)
	if err != nil && err != syscall.EINPROGRESS {
		l.refuse(other)
	}
}

func (l *loop) connected(s *side) {
	if !s.out {
		s = s.other
	}
	if errno, _ := syscall.GetsockoptInt(s.fd, syscall.SOL_SOCKET, syscall.SO_ERROR); errno != 0 {
		l.refuse(s)
		return
	}
	if _, err := syscall.Getpeername(s.fd); err != nil {
		return
	}
	client := s.other
	client.state, s.state = relaying, relaying
	write(client.fd, []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	l.ready(client)
}

func (l *loop) refuse(s *side) {
	write(s.other.fd, []byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
	l.close(s.other, false)
}

// move carries what from has for to, until there is no more, to is full or it is another
// stream's turn.
func (l *loop) move(from, to *side) {
	for range turn {
		if !l.flush(from, to) {
			return
		}
		if from.ended {
			if !from.told {
				from.told = true
				_ = syscall.Shutdown(to.fd, syscall.SHUT_WR)
			}
			if to.told {
				l.close(from, false)
			}
			return
		}
		if from.pipe[0] != 0 {
			n, errno := splice(from.fd, from.pipe[1], pipeSize)
			if errno == syscall.EAGAIN {
				return
			}
			if errno != 0 {
				l.close(from, true)
				return
			}
			from.piped, from.ended = n, n == 0
			continue
		}
		n, errno := read(from.fd, l.buffer[:])
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 {
			l.close(from, true)
			return
		}
		if n == 0 {
			from.ended = true
			continue
		}
		done := write(to.fd, l.buffer[:n])
		if done < 0 {
			l.close(from, true)
			return
		}
		if done < n {
			from.pending = append(from.pending, l.buffer[done:n]...)
		}
		if n == bufferSize && syscall.Pipe2(from.pipe[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC) == nil {
			_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(from.pipe[0]), fSetPipeSize, pipeSize)
		}
	}
	if !from.queued {
		from.queued = true
		l.again = append(l.again, from)
	}
}

// flush writes what waits, and tells whether nothing is left.
func (l *loop) flush(from, to *side) bool {
	if len(from.pending) > 0 {
		done := write(to.fd, from.pending)
		if done < 0 {
			l.close(from, true)
			return false
		}
		from.pending = from.pending[done:]
		if len(from.pending) > 0 {
			return false
		}
		from.pending = nil
	}
	for from.piped > 0 {
		n, errno := splice(from.pipe[0], to.fd, from.piped)
		if errno == syscall.EAGAIN {
			return false
		}
		if errno != 0 {
			l.close(from, true)
			return false
		}
		from.piped -= n
	}
	return true
}

func (l *loop) close(s *side, reset bool) {
	for _, each := range []*side{s, s.other} {
		if each == nil || each.state == closed {
			continue
		}
		each.state = closed
		delete(l.sides, int32(each.fd))
		if reset {
			linger := syscall.Linger{Onoff: 1}
			_ = syscall.SetsockoptLinger(each.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &linger)
		}
		_ = syscall.Close(each.fd)
		if each.pipe[0] != 0 {
			_ = syscall.Close(each.pipe[0])
			_ = syscall.Close(each.pipe[1])
		}
	}
}

func read(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if errno == syscall.EINTR {
		errno = syscall.EAGAIN
	}
	return int(n), errno
}

// write returns how much was written; -1 if the connection has failed.
func write(fd int, p []byte) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		return int(n)
	case syscall.EAGAIN, syscall.EINTR:
		return 0
	}
	return -1
}

func splice(from, to, most int) (int, syscall.Errno) {
	const moveNonblock = 3
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), moveNonblock)
	return int(n), errno
}
