package dial

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"
)

// long is a conversation of three turns.
func long() *golden {
	for _, g := range goldens() {
		if g.name == "socks5-login" {
			return &g
		}
	}
	panic("there is none")
}

// Every conversation opens a leg that carries both ways, over every family, with what came
// behind the last answer left over.
func TestOpens(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6", "unix"} {
		for _, g := range goldens() {
			t.Run(network+"-"+g.name, func(t *testing.T) {
				b := newBench(t)
				s := newServer(t, network)
				defer s.close()
				b.start(courseTo(t, &g, s.address))
				conn := s.accept()
				defer conn.Close()
				for i, turn := range g.turns {
					s.read(conn, turn.sent)
					last := i == len(g.turns)-1 && turn.answer != ""
					if answer := turn.answer + pick(last, "left over", ""); answer != "" {
						s.write(conn, answer)
					}
				}
				end := b.expect(Opened, len(g.steps)-1)
				if !end.Watched || end.Address != 0 {
					t.Errorf("%+v", end)
				}
				leg := taken(t, end)
				defer leg.Close()
				want := pick(g.turns[len(g.turns)-1].answer == "", "", "left over")
				if string(end.Received) != want {
					t.Errorf("%q is left over", end.Received)
				}
				s.write(conn, "down")
				s.read(leg, "down")
				s.write(leg, "up")
				s.read(conn, "up")
			})
		}
	}
}

// Answers may come byte by byte.
func TestOpensByteByByte(t *testing.T) {
	b := newBench(t)
	g := long()
	s := newServer(t, "tcp4")
	defer s.close()
	b.start(courseTo(t, g, s.address))
	conn := s.accept()
	defer conn.Close()
	for _, turn := range g.turns {
		s.read(conn, turn.sent)
		for i := range len(turn.answer) {
			s.write(conn, turn.answer[i:i+1])
			b.turn()
		}
	}
	_ = taken(t, b.expect(Opened, 2)).Close()
}

// Without steps, a connection is enough, and nothing is read from it.
func TestOpensDirectly(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6", "unix"} {
		b := newBench(t)
		s := newServer(t, network)
		b.start(courseTo(t, &golden{}, s.address))
		conn := s.accept()
		s.write(conn, "first")
		end := b.expect(Opened, 0)
		leg := taken(t, end)
		s.read(leg, "first")
		for _, c := range []io.Closer{leg, conn, s.listener} {
			_ = c.Close()
		}
	}
}

// The socket has what the course says.
func TestSocketOptions(t *testing.T) {
	b := newBench(t)
	s := newServer(t, "tcp4")
	defer s.close()
	course := blob{timeout: time.Hour, stallTime: 7 * time.Second, addresses: [][]byte{s.address}}
	if unix.Geteuid() == 0 {
		course.mark = 42
	}
	b.start(course.course(t))
	end := b.expect(Opened, 0)
	defer unix.Close(end.FD)
	for _, each := range []struct{ level, option, want int }{
		{unix.SOL_SOCKET, unix.SO_MARK, int(course.mark)},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 7000},
	} {
		if got, err := unix.GetsockoptInt(end.FD, each.level, each.option); err != nil || got != each.want {
			t.Errorf("option %d is %d, %v", each.option, got, err)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(end.FD), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(end.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

// After an address that refuses, or does not answer in its share of the time, the next one
// is tried.
func TestNextAddress(t *testing.T) {
	silent, end := deaf(t)
	defer end()
	for name, first := range map[string][]byte{"refuses": nobody(t), "silent": silent, "no such socket": sockaddrUnix("/nowhere/at/all")} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s := newServer(t, "tcp4")
			defer s.close()
			g := long()
			course := courseTo(t, g, first, first, s.address)
			if name == "silent" {
				course.timeout = 900 * time.Millisecond
			}
			b.start(course)
			conn := s.accept()
			defer conn.Close()
			s.play(conn, g, len(g.turns))
			end := b.expect(Opened, 2)
			if end.Address != 2 {
				t.Errorf("address %d", end.Address)
			}
			_ = taken(t, end).Close()
		})
	}
}

// Where every address refuses, the dial has failed with what the last one said.
func TestFailed(t *testing.T) {
	b := newBench(t)
	b.start(courseTo(t, long(), sockaddrUnix("/nowhere/at/all"), nobody(t)))
	if end := b.expect(Failed, Connecting); end.Error != unix.ECONNREFUSED || end.Address != 1 {
		t.Errorf("%+v", end)
	}
	b.start(courseTo(t, long(), nobody(t), sockaddrUnix("/nowhere/at/all")))
	if end := b.expect(Failed, Connecting); end.Error != unix.ENOENT || end.Address != 1 {
		t.Errorf("%+v", end)
	}
}

// Where no socket can be made, the end says so.
func TestNoSocket(t *testing.T) {
	b := newBench(t)
	address := nobody(t)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	b.start(courseTo(t, long(), address, address))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if end := b.expect(NoSocket, Connecting); end.Error != unix.EMFILE || end.Address != 1 {
		t.Errorf("%+v", end)
	}
}

// A unix socket whose queue is full is left to those who can wait for it.
func TestGeneral(t *testing.T) {
	b := newBench(t)
	path := t.TempDir() + "/s"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	must(t, unix.Listen(fd, 0))
	course := courseTo(t, &golden{}, sockaddrUnix(path))
	b.start(course)
	defer unix.Close(b.expect(Opened, 0).FD)
	b.start(course)
	b.expect(General, Connecting)
}

// The time is over while connecting, and during each step, whatever was received.
func TestExpired(t *testing.T) {
	silent, end := deaf(t)
	defer end()
	g := long()
	b := newBench(t)
	course := courseTo(t, g, silent)
	course.timeout = 10 * time.Millisecond
	b.start(course)
	b.expect(Expired, Connecting)
	for turns := range g.turns {
		s := newServer(t, "tcp4")
		course := courseTo(t, g, s.address)
		course.timeout = 300 * time.Millisecond
		b.start(course)
		conn := s.accept()
		s.play(conn, g, turns)
		s.write(conn, g.turns[turns].answer[:1])
		if end := b.expect(Expired, turns); !bytes.HasSuffix(end.Received, []byte(g.turns[turns].answer[:1])) {
			t.Errorf("%+v", end)
		}
		expectReset(t, conn)
		s.close()
	}
}

// The connection may end in each step, in order or with a reset.
func TestLost(t *testing.T) {
	g := long()
	for turns := range g.turns {
		for _, want := range []unix.Errno{0, unix.ECONNRESET} {
			b := newBench(t)
			s := newServer(t, "tcp4")
			b.start(courseTo(t, g, s.address))
			conn := s.accept()
			s.play(conn, g, turns)
			if want == 0 {
				s.write(conn, g.turns[turns].answer[:1])
				must(t, conn.(*net.TCPConn).CloseWrite())
			} else {
				reset(conn)
			}
			end := b.expect(Lost, turns)
			if end.Error != want || want == 0 && !bytes.HasSuffix(end.Received, []byte(g.turns[turns].answer[:1])) {
				t.Errorf("%+v", end)
			}
			_ = conn.Close()
			s.close()
		}
	}
}

// What the other side said before it closed is told, be it the good way or something else.
func TestLastWords(t *testing.T) {
	g := long()
	for last, want := range map[string]Kind{reply4 + "left over": Opened, "\x05\x05": HandedOn} {
		b := newBench(t)
		s := newServer(t, "tcp4")
		b.start(courseTo(t, g, s.address))
		conn := s.accept()
		s.play(conn, g, 2)
		s.write(conn, last)
		must(t, conn.Close())
		end := b.expect(want, 2)
		if string(end.Received) != pick(want == Opened, "left over", "\x05\x02\x01\x00"+last) {
			t.Errorf("%+v", end)
		}
		leg := taken(t, end)
		if n, err := leg.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = leg.Close()
		s.close()
	}
}

// What is not the good way is handed on in each step, with a connection that works.
func TestHandedOn(t *testing.T) {
	g := long()
	for turns := range g.turns {
		b := newBench(t)
		s := newServer(t, "tcp4")
		b.start(courseTo(t, g, s.address))
		conn := s.accept()
		s.play(conn, g, turns)
		s.write(conn, "\x05\xff")
		end := b.expect(HandedOn, turns)
		leg := taken(t, end)
		if !bytes.Contains(end.Received, []byte{5}) { // \xff may come later
			t.Errorf("%+v", end)
		}
		s.write(leg, "up")
		s.read(conn, "up")
		_ = leg.Close()
		_ = conn.Close()
		s.close()
	}
}

// When the patience is over that is told once, and success is handed on from then on.
func TestSilent(t *testing.T) {
	g := long()
	for turns := range g.turns {
		b := newBench(t)
		s := newServer(t, "tcp4")
		course := courseTo(t, g, s.address)
		course.patience = 50 * time.Millisecond
		b.start(course)
		conn := s.accept()
		s.play(conn, g, turns)
		select {
		case <-b.silent:
		case <-time.After(waitLimit):
			t.Fatal("nothing is told")
		}
		for i, turn := range g.turns[turns:] {
			if i > 0 {
				s.read(conn, turn.sent)
			}
			s.write(conn, turn.answer)
		}
		end := b.expect(HandedOn, 2)
		if want := "\x05\x02\x01\x00" + reply4; string(end.Received) != want || len(b.silent) > 0 {
			t.Errorf("%+v, told %d times more", end, len(b.silent))
		}
		_ = taken(t, end).Close()
		_ = conn.Close()
		s.close()
	}
}

// On a connection that waited, the handshake goes on with a later step; and if it has ended
// meanwhile, it is lost there.
func TestStartOn(t *testing.T) {
	g := long()
	for _, ended := range []bool{false, true} {
		b := newBench(t)
		s := newServer(t, "tcp4")
		b.start(courseTo(t, &golden{}, s.address))
		conn := s.accept()
		fd := b.expect(Opened, 0).FD
		b.loop.Dismiss(fd)
		if ended {
			must(t, conn.Close())
		}
		b.dial = New(b.loop, courseTo(t, g, s.address), request, b)
		b.dial.StartOn(fd, 2)
		if ended {
			b.expect(Lost, 2)
		} else {
			s.read(conn, "REQUEST")
			s.write(conn, reply4)
			_ = taken(t, b.expect(Opened, 2)).Close()
			_ = conn.Close()
		}
		s.close()
	}
}

// A connection that waited has the course's time to send once it is good, however little its
// request had.
func TestWaitedStall(t *testing.T) {
	b := newBench(t)
	s := newServer(t, "tcp4")
	defer s.close()
	b.start(courseTo(t, &golden{}, s.address))
	fd := b.expect(Opened, 0).FD
	b.loop.Dismiss(fd)
	must(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 2000))
	course := blob{timeout: time.Hour, stallTime: 7 * time.Second, addresses: [][]byte{s.address}}
	b.dial = New(b.loop, course.course(t), nil, b)
	b.dial.StartOn(fd, 0)
	end := b.expect(Opened, 0)
	defer unix.Close(end.FD)
	if got, err := unix.GetsockoptInt(end.FD, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || got != 7000 {
		t.Errorf("%d ms, %v", got, err)
	}
}

// A dial that is cancelled in any step resets its connection and says nothing more.
func TestCancel(t *testing.T) {
	silent, end := deaf(t)
	defer end()
	b := newBench(t)
	b.start(courseTo(t, long(), silent))
	b.dial.Cancel()
	g := long()
	for turns := range g.turns {
		s := newServer(t, "tcp4")
		b.start(courseTo(t, g, s.address))
		conn := s.accept()
		s.play(conn, g, turns)
		b.dial.Cancel()
		expectReset(t, conn)
		s.close()
	}
	b.turn()
	if len(b.ends) > 0 {
		t.Errorf("%+v", <-b.ends)
	}
}

// A dial that is cancelled before it starts does nothing, and closes the connection that it
// is given.
func TestCancelBeforeStart(t *testing.T) {
	b := newBench(t)
	s := newServer(t, "tcp4")
	defer s.close()
	b.start(courseTo(t, &golden{}, s.address))
	conn := s.accept()
	fd := b.expect(Opened, 0).FD
	b.loop.Dismiss(fd)
	for _, start := range []func(){b.dial.Start, func() { b.dial.StartOn(fd, 0) }} {
		b.dial = New(b.loop, courseTo(t, long(), s.address), request, b)
		b.dial.Cancel()
		b.turn()
		start()
	}
	_ = conn.Close()
	b.turn()
	if len(b.ends) > 0 {
		t.Errorf("%+v", <-b.ends)
	}
}

// What the socket does not take at once is sent later.
func TestLargeRequest(t *testing.T) {
	b := newBench(t)
	s := newServer(t, "tcp4")
	defer s.close()
	g := long()
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	b.dial = New(b.loop, courseTo(t, g, s.address), large, b)
	b.dial.Start()
	conn := s.accept()
	defer conn.Close()
	s.play(conn, &golden{turns: g.turns[:2]}, 2)
	b.turn()
	s.read(conn, string(large))
	s.write(conn, reply4)
	_ = taken(t, b.expect(Opened, 2)).Close()
}

// More than a handshake may receive is handed on, all of it.
func TestTooMuch(t *testing.T) {
	b := newBench(t)
	s := newServer(t, "tcp4")
	defer s.close()
	g := golden{steps: []step{{own: true, tail: tailHTTPHead}}}
	b.start(courseTo(t, &g, s.address))
	conn := s.accept()
	defer conn.Close()
	s.read(conn, "REQUEST")
	go func() { _, _ = conn.Write(append([]byte("HTTP/1.1 200 "), bytes.Repeat([]byte("x"), 2*Limit)...)) }()
	end := b.expect(HandedOn, 0)
	if len(end.Received) != Limit {
		t.Errorf("%d bytes", len(end.Received))
	}
	_ = taken(t, end).Close()
}

// Nothing holds a dial that has ended, whose time is not over.
func TestNothingHoldsIt(t *testing.T) {
	b := newBench(t)
	s := newServer(t, "tcp4")
	defer s.close()
	g := long()
	for _, how := range []string{"opened", "cancelled"} {
		b.start(courseTo(t, g, s.address))
		conn := s.accept()
		if how == "opened" {
			s.play(conn, g, len(g.turns))
			_ = taken(t, b.expect(Opened, 2)).Close()
		} else {
			b.dial.Cancel()
			expectReset(t, conn)
		}
		_ = conn.Close()
		held := weak.Make(b.dial)
		b.dial = nil
		eventually(t, "the dial to be let go: "+how, func() bool { runtime.GC(); return held.Value() == nil })
	}
}
