package smalltcp

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/carry"
)

const ack = header.TCPFlagAck

// The SYN-ACK offers MSS and window scale to an app that does, and only then.
func TestOffer(t *testing.T) {
	forFamilies(t, func(t *testing.T, six bool) {
		for _, scales := range []bool{true, false} {
			options := []byte{2, 4, appMSS >> 8, appMSS & 0xff}
			if scales {
				options = append(options, 1, 3, 3, appShift)
			}
			a := newApp(t, six, options...)
			s := a.one("a SYN-ACK")
			o := header.ParseSynOptions(s.Options(), true)
			mss := testMTU - 40
			if six {
				mss -= 20
			}
			if s.Flags() != header.TCPFlagSyn|ack || s.AckNumber() != a.seq || int(o.MSS) != mss || (o.WS >= 0) != scales {
				t.Fatalf("%s %d %+v", s.Flags(), s.AckNumber(), o)
			}
			a.ack = s.SequenceNumber() + 1
			a.send(ack, []byte("x"))
			want := uint16((receiveBuffer - 1) >> windowShift)
			if !scales {
				want = largestWindow
			}
			if r := a.one("an acknowledgement"); r.WindowSize() < want-1 {
				t.Errorf("the window is %d", r.WindowSize())
			}
		}
	})
}

// Bytes go both ways as they are, whatever their number, and the last segments are pushed.
func TestBothWays(t *testing.T) {
	forFamilies(t, func(t *testing.T, six bool) {
		a := connect(t, six)
		a.send(ack, []byte("question"))
		a.challenged("the question")
		if got, err := a.read(); got != "question" || err != nil {
			t.Fatal(got, err)
		}
		answer := make([]byte, 30000)
		for i := range answer {
			answer[i] = byte(i * 7)
		}
		if n := a.write(answer); n != len(answer) {
			t.Fatal(n)
		}
		var got []byte
		for _, s := range a.got() {
			if s.SequenceNumber() != a.ack+uint32(len(got)) || s.AckNumber() != a.seq {
				t.Fatalf("a segment at %d", s.SequenceNumber()-a.ack)
			}
			got = append(got, s.Payload()...)
			if last := len(got) == len(answer); s.Flags().Contains(header.TCPFlagPsh) != last {
				t.Errorf("%s at %d", s.Flags(), len(got))
			}
		}
		if !bytes.Equal(got, answer) {
			t.Errorf("%d bytes came, or others", len(got))
		}
		if n := a.conn.Unacknowledged(); n != len(answer) {
			t.Errorf("%d are not acknowledged", n)
		}
		a.ack += uint32(len(answer))
		a.send(ack, nil)
		if n := a.conn.Unacknowledged(); n != 0 {
			t.Errorf("%d are not acknowledged", n)
		}
	})
}

// A reset with the very number ends it; one inside the window is asked about; any other one
// is nobody's.
func TestResets(t *testing.T) {
	a := connect(t, false)
	for _, wrong := range []uint32{a.seq - 1, a.seq + receiveBuffer + largestWindow, a.seq + 1<<31} {
		a.sendAt(wrong, header.TCPFlagRst, nil)
		a.nothing()
	}
	a.sendAt(a.seq+1, header.TCPFlagRst, nil)
	a.challenged("a reset")
	a.state(tcp.StateEstablished)
	a.send(ack, []byte("last"))
	a.got()
	a.send(header.TCPFlagRst, nil)
	a.nothing()
	a.state(tcp.StateError)
	if got, err := a.read(); got != "last" || err != nil {
		t.Error("what came before is lost:", got, err)
	}
	if _, err := a.read(); !is[*tcpip.ErrConnectionReset](err) {
		t.Error(err)
	}
}

// A SYN in the middle is asked about, whatever its number.
func TestSYNInTheMiddle(t *testing.T) {
	a := connect(t, false)
	for _, seq := range []uint32{appISN, a.seq, a.seq + 5, a.seq + 1<<31} {
		a.sendAt(seq, header.TCPFlagSyn, nil)
		a.challenged("a SYN")
	}
	a.state(tcp.StateEstablished)
}

// An acknowledgement of what was never sent, or of what is long gone, is asked about, and
// its data is not taken.
func TestWildAcknowledgements(t *testing.T) {
	a := connect(t, false)
	right := a.ack
	for _, wrong := range []uint32{right + 1, right + 1<<31 - 1, right + 1<<31, right - 1<<20} {
		a.ack = wrong
		a.sendAt(a.seq, ack, []byte("x"))
		a.challenged("a wild acknowledgement")
	}
	if got, err := a.read(); got != "" || !is[*tcpip.ErrWouldBlock](err) {
		t.Error(got, err)
	}
}

// Segments that come twice, early, late and across each other make up the stream that they
// are parts of.
func TestOutOfOrder(t *testing.T) {
	stream := make([]byte, 20000)
	for i := range stream {
		stream[i] = byte(i>>8) ^ byte(i)
	}
	for range 200 {
		a := connect(t, false)
		first := a.seq
		var got []byte
		for len(got) < len(stream) {
			from := min(len(stream)-1, max(0, len(got)+rand.IntN(6000)-1500))
			to := min(len(stream), from+rand.IntN(2000))
			if rand.IntN(3) == 0 {
				from = len(got)
				to = max(from, to)
			}
			a.sendAt(first+uint32(from), ack, stream[from:to])
			s, _ := a.read()
			got = append(got, s...)
			if a.conn.expected != first+uint32(len(got)) {
				t.Fatalf("expects %d, and %d were read", a.conn.expected-first, len(got))
			}
		}
		if !bytes.Equal(got, stream) {
			t.Fatal("it is another stream")
		}
		if len(a.conn.early) > 0 || a.conn.earlyBytes != 0 {
			t.Fatalf("%d segments are left, %d bytes", len(a.conn.early), a.conn.earlyBytes)
		}
	}
}

// A segment behind a gap is answered at once with what is expected, so that the app finds
// the loss without waiting.
func TestGap(t *testing.T) {
	a := connect(t, false)
	for i := range uint32(3) {
		a.sendAt(a.seq+10+i, ack, []byte("x"))
		a.challenged("a gap")
	}
}

// What comes early is kept until the gap is closed, and is acknowledged with it; of very many
// small segments only the first.
func TestEarlySegments(t *testing.T) {
	a := connect(t, false)
	const many = earlyLimit + 20
	first := a.seq
	for i := range uint32(many) {
		a.sendAt(first+1+i, ack, []byte{byte(i)})
	}
	a.got()
	a.send(ack, []byte("!"))
	if s := a.one("an acknowledgement"); s.AckNumber() != first+1+earlyLimit {
		t.Errorf("%d bytes are acknowledged", s.AckNumber()-first)
	}
	if s, _ := a.read(); len(s) != 1+earlyLimit {
		t.Errorf("%d bytes", len(s))
	}
}

// An app that nobody reads from is held up by its window, what it sends beyond is not taken,
// and it hears when there is room again.
func TestUnread(t *testing.T) {
	forFamilies(t, func(t *testing.T, six bool) {
		a := connect(t, six)
		sent := 0
		for a.conn.edge != a.seq || sent == 0 {
			a.send(ack, make([]byte, 50000)[:min(50000, int(a.conn.edge-a.seq))])
			sent = a.conn.Unread()
			if sent > receiveBuffer {
				t.Fatalf("%d bytes wait", sent)
			}
		}
		got := a.got()
		if w := got[len(got)-1].WindowSize(); w != 0 {
			t.Errorf("the window is %d", w)
		}
		a.sendAt(a.seq, ack, []byte("more"))
		a.challenged("a probe")
		if n := a.conn.Unread(); n != sent {
			t.Errorf("%d bytes wait, not %d", n, sent)
		}
		if s, _ := a.read(); len(s) != sent {
			t.Errorf("%d of %d bytes", len(s), sent)
		}
		if w := a.one("a window").WindowSize(); int(w)<<windowShift != receiveBuffer {
			t.Errorf("the window is %d", w)
		}
		a.send(ack, []byte("more"))
		if s, _ := a.read(); s != "more" {
			t.Error(s)
		}
	})
}

// A reader that takes a part leaves the rest, in order.
func TestReadsInParts(t *testing.T) {
	a := connect(t, false)
	a.send(ack, []byte("abc"))
	a.conn.Segment(a.segment(ack, []byte("def"), nil))
	for _, want := range []string{"ab", "cd", "ef"} {
		w := limited{left: 2}
		if r, err := a.conn.Read(&w, tcpip.ReadOptions{}); r.Count != 2 || err != nil {
			t.Fatal(r, err)
		}
		if string(w.got) != want {
			t.Errorf("%q instead of %q", w.got, want)
		}
		a.conn.Keep()
	}
}

// limited takes some bytes.
type limited struct {
	got  []byte
	left int
}

func (w *limited) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.got = append(w.got, p[:n]...)
	w.left -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

type full struct{}

func (full) Error() string { return "full" }

var errFull error = full{}

// An app takes what its window says, and a writer that finds no room is told of it.
func TestTheirWindow(t *testing.T) {
	a := connect(t, false)
	written := 0
	for {
		n := a.write(make([]byte, 50000))
		if n == 0 {
			break
		}
		written += n
	}
	if written != carry.SendBuffer {
		t.Errorf("%d bytes were taken", written)
	}
	if a.conn.Readiness(everything) != 0 {
		t.Error("it says that it has room")
	}
	limit := int(appWindow) << appShift
	inFlight := 0
	for rounds := 0; written > 0; rounds++ {
		for _, s := range a.got() {
			inFlight += len(s.Payload())
		}
		if inFlight > limit {
			t.Fatalf("%d bytes on their way", inFlight)
		}
		if inFlight == 0 {
			t.Fatalf("%d bytes are not sent", written)
		}
		a.ack += uint32(inFlight)
		written -= inFlight
		inFlight = 0
		a.send(ack, nil)
	}
	if n := a.conn.Unacknowledged(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}
