package datagram

import (
	"bytes"
	"encoding/binary"
	"testing"

	"nanotun/netstack/internal/link"
)

func take(t *testing.T, s *Services, size int) (payloads [][]byte) {
	t.Helper()
	b := make([]byte, size)
	for b = b[:s.Receive(b)]; len(b) > 0; {
		n := int(binary.NativeEndian.Uint32(b))
		payloads = append(payloads, b[recordHeader:recordHeader+n])
		b = b[recordHeader+n:]
	}
	return payloads
}

// A record is struct ns_datagram, field by field, and the payload behind it.
func TestRecord(t *testing.T) {
	var s Services
	source, destination := end("198.18.0.2:5000"), end("198.18.0.1:53")
	s.push(&source, &destination, []byte("query"))
	b := make([]byte, 100)
	b = b[:s.Receive(b)]
	order := binary.NativeEndian
	want := order.AppendUint32(nil, 5)
	want = order.AppendUint16(order.AppendUint16(want, 5000), 53)
	want = append(want, 4, 0, 0, 0, 198, 18, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	want = append(want, 198, 18, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if want = append(want, "query"...); !bytes.Equal(b, want) {
		t.Errorf("% x, not\n% x", b, want)
	}
}

// Python is told once of what waits, and again only after it has found nothing.
func TestTell(t *testing.T) {
	var s Services
	e := link.End{Family: 4}
	if s.Tell() {
		t.Error("told of nothing")
	}
	for round := range 3 {
		s.push(&e, &e, nil)
		s.push(&e, &e, nil)
		if !s.Tell() {
			t.Errorf("round %d: not told", round)
		}
		take(t, &s, 1000)
		s.push(&e, &e, nil)
		if s.Tell() {
			t.Errorf("round %d: told before it found nothing", round)
		}
		take(t, &s, recordHeader-1) // no room is not nothing
		if s.Tell() {
			t.Errorf("round %d: told because there was no room", round)
		}
		if n := len(take(t, &s, 1000)); n != 1 {
			t.Errorf("round %d: %d", round, n)
		}
		take(t, &s, 1000)
		if s.Tell() {
			t.Errorf("round %d: told of nothing", round)
		}
	}
}

// A reader that always leaves something does not make the queue grow, nor does it
// lose or repeat anything.
func TestServicesThatAreNeverEmpty(t *testing.T) {
	var s Services
	e := link.End{Family: 4}
	payload := make([]byte, 1000)
	pushed, received, most := uint32(0), uint32(0), 0
	for range 20_000 {
		for range 3 {
			binary.NativeEndian.PutUint32(payload, pushed)
			dropped := s.Dropped.Load()
			if s.push(&e, &e, payload); s.Dropped.Load() == dropped {
				pushed++
			}
		}
		for _, p := range take(t, &s, 2*(recordHeader+len(payload))) {
			if n := binary.NativeEndian.Uint32(p); n != received {
				t.Fatalf("%d, not %d", n, received)
			}
			received++
		}
		most = max(most, cap(s.buf))
	}
	if most > 4*servicesLimit {
		t.Errorf("%d bytes are held for at most %d", most, servicesLimit)
	}
	if s.Dropped.Load() == 0 || received != 40_000 {
		t.Errorf("%d dropped, %d received", s.Dropped.Load(), received)
	}
	for len(take(t, &s, servicesLimit)) > 0 {
	}
	if cap(s.buf) > keepRoom {
		t.Errorf("%d bytes are held for nothing", cap(s.buf))
	}
}

// The limit holds to the byte.
func TestServicesLimit(t *testing.T) {
	var s Services
	e := link.End{Family: 4}
	s.push(&e, &e, make([]byte, 60_000))
	rest := servicesLimit - recordHeader - 60_000
	s.push(&e, &e, make([]byte, rest-recordHeader))
	if s.push(&e, &e, nil); s.Dropped.Load() != 1 {
		t.Error("one too many was taken")
	}
	if take(t, &s, recordHeader+60_000); s.Dropped.Load() != 1 {
		t.Error("a reader drops nothing")
	}
	s.push(&e, &e, make([]byte, 60_000))
	if s.push(&e, &e, nil); s.Dropped.Load() != 2 {
		t.Error("the room of what was read was not used, or more than that")
	}
}
