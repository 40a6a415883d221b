package smalltcp

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// What was lost is sent again, one segment until something is acknowledged, then the rest.
func TestLoss(t *testing.T) {
	a := connect(t, false)
	a.write(make([]byte, 5*appMSS))
	if n := len(a.got()); n != 5 {
		t.Fatalf("%d segments", n)
	}
	a.expire()
	first := a.one("the first segment")
	if first.SequenceNumber() != a.ack || len(first.Payload()) != appMSS {
		t.Fatal(first.SequenceNumber()-a.ack, len(first.Payload()))
	}
	a.ack += appMSS
	a.send(ack, nil)
	all := a.got()
	if len(all) != 4 || all[0].SequenceNumber() != a.ack {
		t.Fatalf("%d segments", len(all))
	}
	a.ack += 4 * appMSS
	a.send(ack, nil)
	a.expire()
	a.nothing()
	if a.expire() {
		t.Error("the timer is still set")
	}
	if n := a.host.Retransmits.Load(); n != 5 {
		t.Errorf("%d were counted", n)
	}
}

// Something that was acknowledged since the timer was set sets it anew, and nothing is sent.
func TestProgress(t *testing.T) {
	a := connect(t, false)
	a.write(make([]byte, 2*appMSS))
	a.got()
	a.ack += appMSS
	a.send(ack, nil)
	a.expire()
	a.nothing()
	a.expire()
	if s := a.one("the second segment"); s.SequenceNumber() != a.ack {
		t.Error(s.SequenceNumber() - a.ack)
	}
}

// Sent again is what was sent, and nothing beyond, which the window may not allow.
func TestLossInASmallWindow(t *testing.T) {
	a := connect(t, false)
	a.window = 100
	a.send(ack, nil)
	a.write(make([]byte, 5*appMSS))
	if s := a.one("a part"); len(s.Payload()) != 100<<appShift {
		t.Fatal(len(s.Payload()))
	}
	a.expire()
	if s := a.one("the same part"); len(s.Payload()) != 100<<appShift || s.SequenceNumber() != a.ack {
		t.Error(len(s.Payload()))
	}
}

// A third repetition of an acknowledgement has the missing segment sent again at once, and
// an acknowledgement up to the next gap that one.
func TestRepeatedAcknowledgement(t *testing.T) {
	a := connect(t, false)
	a.write(make([]byte, 5*appMSS))
	a.got()
	for range duplicateLimit - 1 {
		a.send(ack, nil)
		a.nothing()
	}
	a.send(ack, nil)
	if s := a.one("the missing one"); s.SequenceNumber() != a.ack {
		t.Error(s.SequenceNumber() - a.ack)
	}
	a.send(ack, nil)
	a.nothing()
	a.ack += 2 * appMSS
	a.send(ack, nil)
	if s := a.one("the next one"); s.SequenceNumber() != a.ack {
		t.Error(s.SequenceNumber() - a.ack)
	}
	a.ack += 3 * appMSS
	a.send(ack, nil)
	a.nothing()
}

// A kernel whose memory is full throws away what was in its window and closes that. However
// long its app reads nothing, it is asked and answers; once it opens the window again,
// everything is sent again at once, and the timer is set as at first.
func TestLossInAFullKernel(t *testing.T) {
	for _, closes := range []bool{true, false} {
		a := connect(t, false)
		a.write(make([]byte, 5*appMSS))
		a.got()
		a.window = 0
		if !closes {
			a.window = 1
		}
		a.send(ack, nil)
		a.got()
		times := tries - 1
		if closes {
			times = 3 * tries
		}
		for range times {
			if !a.expire() {
				t.Fatal("the timer is not set")
			}
			if len(a.got()) == 0 {
				t.Fatal("neither a question nor a part again")
			}
			a.send(ack, nil)
		}
		a.got()
		a.window = appWindow
		a.send(ack, nil)
		all := a.got()
		if len(all) != 5 || all[0].SequenceNumber() != a.ack {
			t.Fatalf("%d segments, window closed %t", len(all), closes)
		}
		if !a.conn.timing.set || a.conn.timing.vain != 0 {
			t.Errorf("the timer is set %t, after %d in vain", a.conn.timing.set, a.conn.timing.vain)
		}
		a.state(tcp.StateEstablished)
	}
}

// An app that never answers is given up after some tries: data, a FIN and a SYN-ACK alike.
func TestNoAnswer(t *testing.T) {
	for name, begin := range map[string]func() *app{
		"data": func() *app {
			a := connect(t, false)
			a.write([]byte("x"))
			return a
		},
		"FIN": func() *app {
			a := connect(t, false)
			a.conn.Shutdown(tcpip.ShutdownWrite)
			return a
		},
		"SYN-ACK": func() *app { return newApp(t, false) },
	} {
		a := begin()
		first := a.one(name)
		times := 0
		for ; a.expire() && a.conn.EndpointState() != tcp.StateError; times++ {
			if s := a.one(name); s.SequenceNumber() != first.SequenceNumber() || s.Flags()&^header.TCPFlagPsh != first.Flags()&^header.TCPFlagPsh {
				t.Fatalf("%s: %s", name, s.Flags())
			}
		}
		if times < tries-1 || times > tries+1 {
			t.Errorf("%s: %d times", name, times)
		}
		if !is[*tcpip.ErrTimeout](a.conn.LastError()) {
			t.Errorf("%s: %v", name, a.conn.LastError())
		}
	}
}

// A closed window is asked about for as long as the app answers, and what waits goes on when
// it opens.
func TestClosedWindow(t *testing.T) {
	a := connect(t, false)
	a.window = 0
	a.send(ack, nil)
	a.write([]byte("waits"))
	a.nothing()
	for range 10 * tries {
		if !a.expire() {
			t.Fatal("no timer is set")
		}
		if s := a.one("a question"); s.SequenceNumber() != a.ack-1 || len(s.Payload()) > 0 {
			t.Fatal(s.SequenceNumber() - a.ack)
		}
		a.send(ack, nil)
	}
	a.state(tcp.StateEstablished)
	a.window = appWindow
	a.send(ack, nil)
	if s := a.one("data"); string(s.Payload()) != "waits" {
		t.Error(s.Payload())
	}
}

// So is it given up when the app says nothing any more.
func TestClosedWindowForEver(t *testing.T) {
	a := connect(t, false)
	a.window = 0
	a.send(ack, nil)
	a.write([]byte("waits"))
	for times := 0; a.expire(); times++ {
		if times > 2*tries {
			t.Fatal("it asks without end")
		}
	}
	a.state(tcp.StateError)
}

// An idle app is asked whether it is there, stays for as long as it answers, and is given up
// when it does not. A question of the app's is answered.
func TestKeepAlive(t *testing.T) {
	a := connect(t, false)
	for range 10 * questions {
		a.conn.KeepAlive()
		for _, s := range a.got() {
			if s.SequenceNumber() != a.ack-1 {
				t.Fatal(s.SequenceNumber() - a.ack)
			}
			a.send(ack, nil)
		}
	}
	a.state(tcp.StateEstablished)
	a.sendAt(a.seq-1, ack, nil)
	a.challenged("a question")
	asked := 0
	for range 3 * questions {
		a.conn.KeepAlive()
		asked += len(a.got())
	}
	a.state(tcp.StateError)
	if asked != questions+1 { // and the reset
		t.Errorf("asked %d times", asked-1)
	}
}

// The acknowledgement of a question waits for the answer, which carries it; not for longer
// than it may, and not beyond a second question.
func TestHeldAcknowledgement(t *testing.T) {
	a := connect(t, false)
	ask := func(question string) {
		a.host.Hold(a.conn)
		a.send(ack, []byte(question))
		_, _ = a.read()
	}
	a.send(ack, []byte("first")) // and the window opens
	_, _ = a.read()
	a.got()
	ask("question")
	a.nothing()
	a.write([]byte("answer"))
	if s := a.one("the answer"); s.AckNumber() != a.seq {
		t.Error("it does not acknowledge the question")
	}
	a.ack += 6
	if a.host.FlushHeld(0, time.Now()) || a.host.Holds() {
		t.Error("something is held")
	}
	ask("question")
	a.nothing()
	if a.host.FlushHeld(time.Hour, time.Now()) {
		t.Error("it is flushed too early")
	}
	if !a.host.FlushHeld(time.Hour, time.Now().Add(2*time.Hour)) {
		t.Error("it is not flushed")
	}
	a.challenged("the question")
	ask("one")
	a.nothing()
	ask("two")
	a.challenged("both")
	if a.host.Holds() {
		t.Error("something is held")
	}
}
