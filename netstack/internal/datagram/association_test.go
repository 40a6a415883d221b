package datagram

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/link"
)

// If nothing is sent, arriving datagrams keep an association alive for a while only, so
// that others cannot keep an app's port forever.
func TestHearOnly(t *testing.T) {
	table := &Table{}
	a := &Association{table: table}
	a.place = table.idle.PushBack(a)
	for _, c := range []struct{ sent, now, want int64 }{
		{0, resolution + 1, resolution + 1},
		{0, hearOnly - 1, hearOnly - 1},
		{0, hearOnly, hearOnly - 1},
		{hearOnly, 2*hearOnly - 1, 2*hearOnly - 1},
	} {
		a.sent = c.sent
		table.hear(a, c.now)
		if a.active != c.want {
			t.Errorf("sent at %d, heard at %d: active at %d", c.sent, c.now, a.active)
		}
	}
}

// A flow whose app only hears is forgotten no sooner than its association, so that its bytes
// go on to count; without datagrams, or an association, it is forgotten.
func TestHearingFlowStays(t *testing.T) {
	const timeout = time.Minute
	table := New(Config{Timeout: timeout})
	table.began = time.Now().Add(-time.Hour)
	defer table.Close()
	now := table.Look()
	open, over := &Association{active: now}, &Association{ended: true}
	open.place = table.idle.PushBack(open)
	for port, c := range []struct {
		heard       int64
		association *Association
	}{
		{now - timeout.Milliseconds()/2, open},
		{now - timeout.Milliseconds(), open},
		{now, over},
	} {
		f := &flow{key: key{source: link.End{Port: uint16(port)}}, state: attached, association: c.association}
		f.heard.Store(c.heard)
		f.place = table.lru.PushBack(f)
		table.flows[f.key] = f
	}
	table.sweep()
	var left []uint16
	for k := range table.flows {
		left = append(left, k.source.Port)
	}
	if !slices.Equal(left, []uint16{0}) || table.lru.Len() != 1 {
		t.Errorf("left: %d", left)
	}
}

// A SOCKS5 leg survives an error that is about one datagram, and no other.
func TestEnds(t *testing.T) {
	for errno, want := range map[unix.Errno]bool{
		unix.ECONNREFUSED: false, unix.EBADF: true, unix.ENOTCONN: true,
		unix.EPERM: false, unix.EACCES: false, unix.ENETUNREACH: false, unix.EHOSTUNREACH: false,
		unix.EMSGSIZE: false, unix.EAGAIN: false, unix.ENOBUFS: false,
	} {
		if ends(errno) != want {
			t.Errorf("%v", errno)
		}
	}
}
