package datagram

import (
	"testing"

	"golang.org/x/sys/unix"
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
