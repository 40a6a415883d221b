package dial

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/lent"
	"nanotun/netstack/internal/tlstest"
	"nanotun/netstack/internal/tlswire"
)

// safe is a server that speaks TLS, and a course to it.
type safe struct {
	*server
	served *tls.Config
	course *Course
}

const connectAnswer = "HTTP/1.1 200 OK\r\n\r\n"

func safeSteps() []step {
	return []step{{mask: []byte{0xff}, value: []byte{tlswire.Ready}}, {send: []byte("CONNECT "), own: true, tail: tailHTTPHead}}
}

// newSafe has a certificate for this name, and is asked for safe.test.
func newSafe(t *testing.T, name string) *safe {
	t.Helper()
	authority := tlstest.NewAuthority(t)
	number, err := tlswire.Number(tlswire.Options{Authorities: authority.PEM, Host: "safe.test"})
	must(t, err)
	s := &safe{server: newServer(t, "tcp4"), served: authority.Server(t, name, time.Now().Add(time.Hour))}
	s.course = s.with(t, number, safeSteps())
	return s
}

func (s *safe) with(t *testing.T, number uint32, steps []step) *Course {
	t.Helper()
	b := blob{timeout: time.Hour, tls: number, addresses: [][]byte{s.address}, steps: steps}
	return b.course(t)
}

func (s *safe) acceptTLS() *tls.Conn { return tls.Server(s.accept(), s.served) }

// A dial whose course has TLS speaks inside it, and what it gives away is the socket with the
// wire, and what came behind the answer.
func TestDialsInTLS(t *testing.T) {
	s := newSafe(t, "safe.test")
	defer s.close()
	b := newBench(t)
	b.start(s.course)
	conn := s.acceptTLS()
	defer conn.Close()
	s.read(conn, "CONNECT "+string(request))
	s.write(conn, connectAnswer+"hello")
	end := b.expect(Opened, 1)
	defer unix.Close(end.FD)
	if end.Wire == nil || string(end.Received) != "hello" {
		t.Fatalf("%+v", end)
	}
	if _, errno := end.Wire.Write([]byte("inside")); errno != 0 || end.Wire.Flush() != 0 {
		t.Fatal(errno)
	}
	s.read(conn, "inside")
}

// Another answer is handed on with a lent end, through which the conversation goes on; and a
// dial on that end is in TLS again.
func TestHandsOnALentEnd(t *testing.T) {
	s := newSafe(t, "safe.test")
	defer s.close()
	b := newBench(t)
	b.start(s.course)
	conn := s.acceptTLS()
	defer conn.Close()
	s.read(conn, "CONNECT "+string(request))
	const answer = "HTTP/1.1 407 No\r\n\r\n"
	s.write(conn, answer)
	end := b.expect(HandedOn, 1)
	if string(end.Received) != "\x00"+answer {
		t.Fatalf("%q", end.Received)
	}
	_, err := unix.Write(end.FD, []byte("again"))
	must(t, err)
	s.read(conn, "again")

	again := New(b.loop, s.with(t, 0, safeSteps()[1:]), request, b)
	again.StartOn(end.FD, 0)
	s.read(conn, "CONNECT "+string(request))
	s.write(conn, connectAnswer)
	end = b.expect(Opened, 0)
	if end.Wire == nil {
		t.Error("it is not in TLS")
	}
	must(t, unix.Close(end.FD))
}

// What came too early on a connection that waited is handed on, though it has left the socket.
func TestEarlyOnALentEnd(t *testing.T) {
	s := newSafe(t, "safe.test")
	defer s.close()
	b := newBench(t)
	b.start(s.course)
	conn := s.acceptTLS()
	defer conn.Close()
	s.read(conn, "CONNECT "+string(request))
	s.write(conn, "220 hello")
	end := b.expect(HandedOn, 1)
	s.write(conn, "early")
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(end.FD), Events: unix.POLLIN}}, int(waitLimit/time.Millisecond))
	must(t, err)
	New(b.loop, s.with(t, 0, safeSteps()[1:]), request, b).StartOn(end.FD, 0)
	end = b.expect(HandedOn, 0)
	if string(end.Received) != "early" {
		t.Errorf("%q", end.Received)
	}
	must(t, unix.Close(end.FD))
}

// A handshake that fails is a connection that was lost, with the message for Python.
func TestTLSFails(t *testing.T) {
	for name, each := range map[string]struct {
		serve func(*safe, net.Conn)
		want  string
	}{
		"another name": {
			func(s *safe, conn net.Conn) { _ = tls.Server(conn, s.served).Handshake() },
			"\x01\x3bHostname mismatch, certificate is not valid for 'safe.test'",
		},
		"no TLS": {func(s *safe, conn net.Conn) { s.write(conn, "220 hello\r\n") }, "\x02\x14wrong version number"},
		// With bytes that nobody has read, its kernel would reset it.
		"an end": {func(s *safe, conn net.Conn) { _, _ = conn.Read(make([]byte, 4096)) }, "\x03\x00"},
	} {
		s := newSafe(t, "another.test")
		b := newBench(t)
		b.start(s.course)
		conn := s.accept()
		each.serve(s, conn)
		_ = conn.Close()
		end := b.expect(Lost, 0)
		if string(end.Received) != each.want {
			t.Errorf("%s: %q", name, end.Received)
		}
		s.close()
	}
}

// A dial that is dropped in the middle of TLS, or whose time is over, leaves no fd.
func TestTLSIsDropped(t *testing.T) {
	s := newSafe(t, "safe.test")
	defer s.close()
	b := newBench(t)
	b.start(s.course)
	conn := s.accept()
	b.dial.Cancel()
	expectReset(t, conn)

	short := *s.course
	short.timeout = 50 * time.Millisecond
	b.start(&short)
	conn = s.accept()
	b.expect(Expired, 0)
	expectReset(t, conn)
}

// Without a configuration of that number there is no course.
func TestParseTLS(t *testing.T) {
	b := someCourse()
	b.tls = 1 << 30
	if _, err := Parse(b.bytes()); err != unix.EINVAL {
		t.Error(err)
	}
}

// A lent end that is closed closes the connection, and one whose connection was lost ends.
func TestLentEndEnds(t *testing.T) {
	s := newSafe(t, "safe.test")
	defer s.close()
	number, err := tlswire.Number(tlswire.Options{Insecure: true})
	must(t, err)
	for _, ours := range []bool{true, false} {
		plain, err := net.Dial("tcp", s.listener.Addr().String())
		must(t, err)
		file, err := plain.(*net.TCPConn).File()
		must(t, err)
		fd, err := unix.Dup(int(file.Fd()))
		must(t, err)
		must(t, unix.SetNonblock(fd, true))
		_, _ = file.Close(), plain.Close()
		conn := s.acceptTLS()
		end, err := lent.Secure(fd, nil, tlswire.Numbered(number))
		must(t, err)
		must(t, conn.Handshake())
		leg := taken(t, &Result{FD: end})
		s.read(leg, "\x00")
		if ours {
			_ = leg.Close()
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
		} else {
			s.write(conn, "bye")
			reset(conn.NetConn())
			got, err := io.ReadAll(leg)
			if string(got) != "bye" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			_ = leg.Close()
		}
		_ = conn.Close()
	}
}
