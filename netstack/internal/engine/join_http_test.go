package engine

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/plainhttp"
)

// openHTTP dials from the app and joins the flow as one whose requests are translated.
func (a *app) openHTTP() joined {
	a.t.Helper()
	return a.openBy(80, func(flow uint64) *net.TCPConn {
		up := newUpstream(a.t)
		var err error
		a.do(func(e *Engine) { err = e.JoinHTTP(flow, up.fd, nil, 0, "name.example", "Basic dTpw") })
		must(a.t, err)
		return up.conn
	})
}

// Requests of a kept connection come out in absolute-form, each with the log-in, and
// the answers come back as they are; the address as Host is the name it stands for.
func TestRequestsInAbsoluteForm(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		j := a.openHTTP()
		address := v.far().String()
		if v.six {
			address = "[" + address + "]"
		}
		for i, host := range []string{"h.example", address} {
			_, err := fmt.Fprintf(j.app, "GET /%d HTTP/1.1\r\nHost: %s\r\n\r\n", i, host)
			must(t, err)
			name := pick(i == 0, "h.example", "name.example")
			readExactly(t, j.up, fmt.Appendf(nil,
				"GET http://%s/%d HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Basic dTpw\r\n\r\n", name, i, name))
			answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			_, err = j.up.Write(answer)
			must(t, err)
			readExactly(t, j.app, answer)
		}
		must(t, j.app.CloseWrite())
		must(t, j.up.Close())
		if e := a.closed(j.flow); e.Error != 0 {
			t.Errorf("closed with %d", e.Error)
		}
		if n := len(a.events(events.NotHTTP)); n != 0 {
			t.Errorf("%d events say that it is not HTTP", n)
		}
	})
}

// What is not HTTP is reset on both sides; one event says why, before the one of
// the end.
func TestNotHTTPEvent(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		a := newApp(newWorld(t, v))
		j := a.openHTTP()
		_, err := j.app.Write([]byte("\x16\x03\x01"))
		must(t, err)
		if e := a.closed(j.flow); e.Error != int32(unix.EPROTO) {
			t.Errorf("closed with %d", e.Error)
		}
		var kinds []uint32
		a.mu.Lock()
		for _, e := range a.log {
			if e.Flow == j.flow && e.Kind != events.TCPRequest {
				kinds = append(kinds, e.Kind)
			}
		}
		a.mu.Unlock()
		if len(kinds) != 2 || kinds[0] != events.NotHTTP || kinds[1] != events.Closed {
			t.Fatalf("events %d", kinds)
		}
		e := a.events(events.NotHTTP)[0]
		destination := v.far().AsSlice()
		if e.Error != int32(plainhttp.NotHTTP) || e.DestPort != 80 || !bytes.Equal(e.Destination[:len(destination)], destination) {
			t.Errorf("the event is %s", describe(e))
		}
		if _, err := j.app.Read(make([]byte, 1)); !wasReset(err) {
			t.Errorf("the app got %v", err)
		}
		if _, err := j.up.Read(make([]byte, 1)); !wasReset(err) {
			t.Errorf("the proxy got %v", err)
		}
	})
}
