package carry

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/plainhttp"
)

const (
	get    = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
	asked  = "GET http://h/x HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
	noMore = "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n"
)

// newHTTPFixture is a fixture whose flow's requests are translated.
func newHTTPFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, time.Hour)
	f.flow.HTTP = plainhttp.New("203.0.113.7", "Basic dTpw", netip.MustParseAddr("203.0.113.7"))
	return f
}

// send gives the app's bytes to the flow.
func (f *fixture) send(text string) {
	const segment = 1400
	for left := []byte(text); len(left) > 0; left = left[min(segment, len(left)):] {
		f.pump(header.TCPFlagAck|header.TCPFlagPsh, left[:min(segment, len(left))])
	}
}

// fill fills the flow's socket and returns how many bytes that took.
func (f *fixture) fill(t *testing.T) (n int) {
	t.Helper()
	if err := unix.SetsockoptInt(f.flow.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := unix.SendmsgN(f.flow.fd, make([]byte, 512), nil, nil, unix.MSG_DONTWAIT)
		if err != nil {
			return n
		}
		n += m
	}
}

// upstreamReads reads that many bytes, as they come.
func (f *fixture) upstreamReads(t *testing.T, size int) []byte {
	t.Helper()
	got, b := make([]byte, 0, size), make([]byte, 64<<10)
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(f.upstream, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	for len(got) < size {
		n, err := unix.Read(f.upstream, b[:min(len(b), size-len(got))])
		if n <= 0 || err != nil {
			t.Fatalf("after %d of %d bytes: %d, %v", len(got), size, n, err)
		}
		got = append(got, b[:n]...)
	}
	return got
}

// Requests are translated on their way, in the pump's thread; the app's FIN
// behind the last one is passed on.
func TestRequests(t *testing.T) {
	f := newHTTPFixture(t)
	f.flow.Start()
	f.send(get[:9])
	if got := f.upBytes(); got != "" {
		t.Errorf("a part of a head was sent: %q", got)
	}
	f.send(get[9:])
	if got := f.upBytes(); got != asked {
		t.Errorf("the proxy got %q", got)
	}
	f.send(get)
	f.pump(header.TCPFlagAck|header.TCPFlagFin, nil)
	if got := f.upBytes(); got != asked {
		t.Errorf("the proxy got %q", got)
	}
	if n, _, err := unix.Recvfrom(f.upstream, make([]byte, 1), unix.MSG_DONTWAIT); n != 0 || err != nil {
		t.Errorf("no FIN: %d, %v", n, err)
	}
	if up, _ := f.flow.Bytes(); up != uint64(2*len(get)) {
		t.Errorf("%d bytes of the app were counted", up)
	}
}

// A head that the socket does not take is sent once there is room, though the app sends
// nothing more; its FIN comes after that.
func TestHeadWaitsForRoom(t *testing.T) {
	f := newHTTPFixture(t)
	f.flow.Start()
	filled := f.fill(t)
	f.send(get)
	f.pump(header.TCPFlagAck|header.TCPFlagFin, nil)
	f.upstreamReads(t, filled)
	if got := f.upstreamReads(t, len(asked)); string(got) != asked {
		t.Errorf("the proxy got %q", got)
	}
	if n, err := unix.Read(f.upstream, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("no FIN: %d, %v", n, err)
	}
}

// An upload of megabytes arrives whole behind its head, through a socket that is
// nearly always full.
func TestUpload(t *testing.T) {
	const size = 3 << 20
	f := newHTTPFixture(t)
	f.flow.Start()
	if err := unix.SetsockoptInt(f.flow.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	head := "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3145728\r\n\r\n"
	want := strings.Replace(head, " /x", " http://h/x", 1)
	want = strings.Replace(want, "Host: h\r\nContent-Length: 3145728\r\n",
		"Host: h\r\nContent-Length: 3145728\r\nProxy-Authorization: Basic dTpw\r\n", 1)
	var got bytes.Buffer
	buffer := make([]byte, 64<<10)
	all := head + string(body) + get
	for sent := 0; sent < len(all); {
		// As much as fits into the window of the endpoint.
		next := min(len(all), sent+32<<10)
		f.send(all[sent:next])
		sent = next
		for deadline := time.Now().Add(patience); ; {
			if n, _, err := unix.Recvfrom(f.upstream, buffer, unix.MSG_DONTWAIT); err == nil {
				got.Write(buffer[:n])
			}
			if up, _ := f.flow.Bytes(); up == uint64(sent) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the upload is stuck")
			}
		}
		for f.Sent() != nil {
		}
	}
	got.Write(f.upstreamReads(t, len(want)+size+len(asked)-got.Len()))
	if got.String() != want+string(body)+asked {
		t.Errorf("%d bytes, from %q", got.Len(), got.String()[:200])
	}
}

// What cannot be translated ends both sides with a reset, and the flow knows why.
func TestRefused(t *testing.T) {
	f := newHTTPFixture(t)
	f.flow.Start()
	f.send(get + noMore)
	f.end(t, unix.EPROTO)
	if why := f.flow.Refused(); why != plainhttp.Upgrade {
		t.Errorf("reason %d", why)
	}
	if got := f.upBytes(); got != asked {
		t.Errorf("the proxy got %q", got)
	}
	f.Await("the reset", header.TCPFlagRst)
}

// A 407 as the first answer ends the flow before the app sees it.
func TestLoginWanted(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP/1.0 407"} {
		f := newHTTPFixture(t)
		f.flow.Start()
		f.send(get)
		if _, err := unix.Write(f.upstream, []byte(answer)); err != nil {
			t.Fatal(err)
		}
		f.end(t, unix.EPROTO)
		if _, down := f.flow.Bytes(); down != 0 || f.flow.Refused() != plainhttp.Login {
			t.Errorf("%d bytes went down, reason %d", down, f.flow.Refused())
		}
	}
}

// Any other answer passes, one that comes in pieces too, and a later 407.
func TestAnswersPass(t *testing.T) {
	for _, answers := range [][]string{
		{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"},
		{"HTTP/", "1.1 204 No Content\r\n\r\n"},
		{"not HTTP/1.1 407"},
	} {
		f := newHTTPFixture(t)
		f.flow.Start()
		for _, each := range answers {
			if _, err := unix.Write(f.upstream, []byte(each)); err != nil {
				t.Fatal(err)
			}
			if got := f.Await("data", header.TCPFlagPsh); string(got.Payload()) != each {
				t.Errorf("the app got %q", got.Payload())
			}
			f.Send(header.TCPFlagAck, nil)
		}
	}
}
