package dial

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blob is a course as ns_course takes it.
type blob struct {
	mark                         uint32
	timeout, stallTime, patience time.Duration
	tls                          uint32
	addresses                    [][]byte
	steps                        []step
}

func (b *blob) bytes() []byte {
	order := binary.NativeEndian
	p := order.AppendUint32(nil, b.mark)
	for _, d := range []time.Duration{b.timeout, b.stallTime, b.patience} {
		p = order.AppendUint32(p, uint32(d/time.Millisecond))
	}
	p = order.AppendUint32(p, b.tls)
	p = order.AppendUint16(p, uint16(len(b.addresses)))
	p = order.AppendUint16(p, uint16(len(b.steps)))
	for _, a := range b.addresses {
		p = append(p, a[0], a[1]) // the family
		p = order.AppendUint16(p, uint16(len(a)))
		p = append(p, a...)
	}
	for _, s := range b.steps {
		p = append(p, pick[byte](s.own, 1, 0), byte(s.tail))
		p = order.AppendUint16(p, uint16(len(s.send)))
		p = order.AppendUint16(p, uint16(len(s.mask)))
		p = append(p, 0, 0)
		p = append(append(append(p, s.send...), s.mask...), s.value...)
	}
	return p
}

func (b *blob) course(t testing.TB) *Course {
	t.Helper()
	c, err := Parse(b.bytes())
	if err != nil {
		t.Fatalf("Parse: %s", err)
	}
	return c
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// sockaddr is what connect(2) takes.
func sockaddr(end netip.AddrPort) []byte {
	order := binary.NativeEndian
	if end.Addr().Is4() {
		p := order.AppendUint16(nil, unix.AF_INET)
		p = binary.BigEndian.AppendUint16(p, end.Port())
		return append(append(p, end.Addr().AsSlice()...), make([]byte, 8)...)
	}
	p := order.AppendUint16(nil, unix.AF_INET6)
	p = binary.BigEndian.AppendUint16(p, end.Port())
	p = append(append(p, 0, 0, 0, 0), end.Addr().AsSlice()...)
	return append(p, 0, 0, 0, 0)
}

func sockaddrUnix(path string) []byte {
	return append(append(binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX), path...), 0)
}

func someCourse() *blob {
	return &blob{
		mark: 7, timeout: 10 * time.Second, stallTime: time.Minute, patience: time.Second,
		addresses: [][]byte{
			sockaddr(netip.MustParseAddrPort("127.0.0.1:1080")), sockaddr(netip.MustParseAddrPort("[::1]:1080")),
			sockaddrUnix("/run/proxy"),
		},
		steps: socks5Steps(),
	}
}

// A course has what its form says.
func TestParse(t *testing.T) {
	b := someCourse()
	c := b.course(t)
	if c.mark != 7 || c.timeout != 10*time.Second || c.stallTime != time.Minute || c.patience != time.Second {
		t.Errorf("%+v", c)
	}
	for i, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
		if a := c.addresses[i]; a.family != family || !bytes.Equal(a.raw, b.addresses[i]) {
			t.Errorf("address %d is %+v", i, a)
		}
	}
	for i, want := range b.steps {
		got := c.steps[i]
		if !bytes.Equal(got.send, want.send) || !bytes.Equal(got.mask, want.mask) || !bytes.Equal(got.value, want.value) ||
			got.own != want.own || got.tail != want.tail {
			t.Errorf("step %d is %+v", i, got)
		}
	}
}

// Nothing that is shorter or longer than a course is one.
func TestParseAnotherLength(t *testing.T) {
	whole := someCourse().bytes()
	for n := range whole {
		if _, err := Parse(whole[:n]); err != unix.EINVAL {
			t.Errorf("%d bytes of %d: %v", n, len(whole), err)
		}
	}
	if _, err := Parse(append(whole, 0)); err != unix.EINVAL {
		t.Errorf("a byte more: %v", err)
	}
}

// What cannot be meant is no course.
func TestParseStrictly(t *testing.T) {
	for name, spoil := range map[string]func(*blob){
		"no time":                  func(b *blob) { b.timeout = 0 },
		"no address":               func(b *blob) { b.addresses = nil },
		"too many addresses":       func(b *blob) { b.addresses = slicesRepeat(b.addresses[0], addressLimit+1) },
		"too many steps":           func(b *blob) { b.steps = slicesRepeat(step{}, stepLimit+1) },
		"another family":           func(b *blob) { b.addresses[0] = []byte{unix.AF_NETLINK, 0, 1, 1} },
		"a short IPv4 address":     func(b *blob) { b.addresses[0] = b.addresses[0][:15] },
		"a short IPv6 address":     func(b *blob) { b.addresses[1] = b.addresses[1][:24] },
		"a unix address of naught": func(b *blob) { b.addresses[2] = b.addresses[2][:2] },
		"an unknown tail":          func(b *blob) { b.steps[0].tail = tails },
		"a SOCKS address too soon": func(b *blob) { b.steps[0].tail = tailSocksAddress },
		"bits that are not masked": func(b *blob) { b.steps[0].mask = []byte{0xff, 0xfe}; b.steps[0].value = []byte{5, 1} },
	} {
		b := someCourse()
		spoil(b)
		if _, err := Parse(b.bytes()); err != unix.EINVAL {
			t.Errorf("%s: %v", name, err)
		}
	}
	header := someCourse().bytes()
	header[courseHeader] = unix.AF_INET6 // the address itself is of AF_INET
	if _, err := Parse(header); err != unix.EINVAL {
		t.Errorf("two families: %v", err)
	}
	step := courseHeader + 3*addressHeader + sizeInet4 + sizeInet6 + len(sockaddrUnix("/run/proxy"))
	for _, at := range []int{0, 6, 7} { // own, and what is 0
		spoilt := someCourse().bytes()
		spoilt[step+at] = 2
		if _, err := Parse(spoilt); err != unix.EINVAL {
			t.Errorf("byte %d of a step: %v", at, err)
		}
	}
}

func slicesRepeat[T any](one T, n int) (all []T) {
	for range n {
		all = append(all, one)
	}
	return all
}

// A handshake may begin with each of a course's steps, and without steps only with the end.
func TestTakes(t *testing.T) {
	c := someCourse().course(t)
	for first, want := range map[int]bool{0: true, 1: true, 2: false, 1 << 31: false} {
		if c.Takes(first) != want {
			t.Errorf("step %d", first)
		}
	}
	if none := (&Course{}); !none.Takes(0) || none.Takes(1) {
		t.Error("without steps")
	}
}
