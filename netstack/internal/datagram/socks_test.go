package datagram

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"nanotun/netstack/internal/link"
)

func end(address string) link.End {
	a := netip.MustParseAddrPort(address)
	e := endOf(a.Addr())
	e.Port = a.Port()
	return e
}

// The header is that of RFC 1928, section 7, byte for byte.
func TestAppendHeader(t *testing.T) {
	for address, want := range map[string][]byte{
		"203.0.113.7:53":      {0, 0, 0, 1, 203, 0, 113, 7, 0, 53},
		"255.255.255.255:443": {0, 0, 0, 1, 255, 255, 255, 255, 1, 0xbb},
		"[2001:db8::7]:65535": {0, 0, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff},
	} {
		e := end(address)
		if got := appendHeader([]byte("before"), &e); !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("%s: % x, not % x", address, got, want)
		}
		if len(want) > headerLimit {
			t.Errorf("%d bytes are more than the limit", len(want))
		}
		source, payload, ok := parseHeader(append(want, "payload"...))
		if !ok || source != e || string(payload) != "payload" {
			t.Errorf("%s came back as %+v, %q, %t", address, source, payload, ok)
		}
	}
}

// The header with a name is that of RFC 1928, section 7, up to the longest name.
func TestAppendNameHeader(t *testing.T) {
	for _, size := range []int{1, 15, 255} {
		name := strings.Repeat("n", size)
		want := append(append([]byte{0, 0, 0, 3, byte(size)}, name...), 0x1f, 0x90)
		if got := appendNameHeader([]byte("before"), name, 8080); !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("% x, not % x", got, want)
		}
		if len(want) > headerLimit {
			t.Errorf("%d bytes are more than the limit", len(want))
		}
	}
}

// What a relay may send is understood: the reserved bytes are its own, a name may
// be an address, and an IPv4 address may come in IPv6's clothes.
func TestParseHeader(t *testing.T) {
	mapped := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7, 0, 53}
	for name, c := range map[string]struct {
		b    []byte
		want link.End
	}{
		"reserved bytes":      {[]byte{9, 9, 0, 1, 203, 0, 113, 7, 0, 53}, end("203.0.113.7:53")},
		"a mapped address":    {mapped, end("203.0.113.7:53")},
		"an address in text":  {append([]byte{0, 0, 0, 3, 11}, "203.0.113.7\x00\x35"...), end("203.0.113.7:53")},
		"an IPv6 one":         {append([]byte{0, 0, 0, 3, 12}, "2001:db8::7\x00\x00\x35"...), link.End{Port: 53}},
		"an IPv6 one, right":  {append([]byte{0, 0, 0, 3, 11}, "2001:db8::7\x00\x35"...), end("[2001:db8::7]:53")},
		"a mapped one":        {append([]byte{0, 0, 0, 3, 18}, "::ffff:203.0.113.7\x00\x35"...), end("203.0.113.7:53")},
		"one with a zone":     {append([]byte{0, 0, 0, 3, 9}, "fe80::1%e\x00\x35"...), link.End{Port: 53}},
		"a name":              {append([]byte{0, 0, 0, 3, 11}, "example.com\x00\x35"...), link.End{Port: 53}},
		"an empty name":       {[]byte{0, 0, 0, 3, 0, 0, 53}, link.End{Port: 53}},
		"port 0":              {[]byte{0, 0, 0, 1, 203, 0, 113, 7, 0, 0}, end("203.0.113.7:0")},
		"an unspecified one":  {[]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, end("0.0.0.0:0")},
		"the longest name":    {append(append([]byte{0, 0, 0, 3, 255}, bytes.Repeat([]byte{'a'}, 255)...), 0, 53), link.End{Port: 53}},
		"a name that is zero": {[]byte{0, 0, 0, 3, 1, 0, 0, 53}, link.End{Port: 53}},
	} {
		for _, payload := range []string{"", "x", "payload"} {
			source, rest, ok := parseHeader(append(bytes.Clone(c.b), payload...))
			if !ok || source != c.want || string(rest) != payload {
				t.Errorf("%s: %+v, %q, %t, not %+v", name, source, rest, ok, c.want)
			}
		}
	}
}

// What is no header is none: each that is too short, fragments, unknown types.
func TestParseHeaderRefuses(t *testing.T) {
	four, six := end("203.0.113.7:53"), end("[2001:db8::7]:53")
	good := [][]byte{
		appendHeader(nil, &four), appendHeader(nil, &six),
		append([]byte{0, 0, 0, 3, 11}, "example.com\x00\x35"...), {0, 0, 0, 3, 0, 0, 53},
	}
	refuse := func(b []byte) {
		t.Helper()
		// Past its end lies what must not be read.
		if source, _, ok := parseHeader(b[:len(b):len(b)]); ok {
			t.Errorf("% x is from %+v", b, source)
		}
	}
	refuse(nil)
	for _, b := range good {
		for size := range b {
			refuse(b[:size])
		}
		for kind := range 256 {
			changed := bytes.Clone(b)
			if changed[3] = byte(kind); kind != 1 && kind != 3 && kind != 4 {
				refuse(changed)
			}
			changed = bytes.Clone(b)
			if changed[2] = byte(kind); kind != 0 {
				refuse(changed)
			}
		}
	}
}

// Any bytes are either a header and a payload that is their rest, or none.
func TestParseHeaderOfGarbage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		b := make([]byte, random.IntN(40))
		for i := range b {
			b[i] = byte(random.Uint32() >> random.IntN(32))
		}
		if len(b) > 3 {
			b[2] &= byte(random.IntN(2))
			b[3] %= 6
		}
		source, payload, ok := parseHeader(b)
		if ok && (!bytes.HasSuffix(b, payload) || len(b)-len(payload) < 7 || source.Family != 0 && source.Family != 4 && source.Family != 6) {
			t.Fatalf("% x: %+v, % x", b, source, payload)
		}
	}
}
