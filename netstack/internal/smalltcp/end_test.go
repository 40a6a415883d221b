package smalltcp

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const fin = header.TCPFlagFin | header.TCPFlagAck

// fallen takes the connection's FIN.
func (a *app) fallen() {
	a.t.Helper()
	s := a.one("a FIN")
	if s.Flags() != fin || s.SequenceNumber() != a.ack {
		a.t.Fatalf("%s at %d", s.Flags(), s.SequenceNumber()-a.ack)
	}
	a.ack++
}

// The app ends first: what it gets after that still comes, then LAST-ACK and the end.
func TestAppEndsFirst(t *testing.T) {
	a := connect(t, false)
	a.send(fin, []byte("bye"))
	a.challenged("a FIN")
	a.state(tcp.StateCloseWait)
	if s, err := a.read(); s != "bye" || err != nil {
		t.Fatal(s, err)
	}
	if _, err := a.read(); !is[*tcpip.ErrClosedForReceive](err) {
		t.Fatal(err)
	}
	a.write([]byte("late"))
	if s := a.one("data"); string(s.Payload()) != "late" {
		t.Error(s.Payload())
	}
	a.ack += 4
	a.conn.Shutdown(tcpip.ShutdownWrite)
	a.fallen()
	a.state(tcp.StateLastAck)
	a.send(ack, nil)
	a.state(tcp.StateClose)
	a.nothing()
}

// The upstream ends first: the app goes on, and its end leads to TIME-WAIT, in which a
// repeated FIN is acknowledged again.
func TestUpstreamEndsFirst(t *testing.T) {
	a := connect(t, false)
	a.conn.Shutdown(tcpip.ShutdownWrite)
	a.fallen()
	a.state(tcp.StateFinWait1)
	a.send(ack, nil)
	a.state(tcp.StateFinWait2)
	a.send(ack, []byte("late"))
	a.challenged("data")
	if s, _ := a.read(); s != "late" {
		t.Error(s)
	}
	a.send(fin, nil)
	a.challenged("a FIN")
	a.state(tcp.StateTimeWait)
	a.sendAt(a.seq-1, fin, nil)
	a.challenged("the same FIN")
	if a.expire() {
		t.Error("a timer is set")
	}
}

// Both end at once.
func TestBothEnd(t *testing.T) {
	a := connect(t, false)
	a.conn.Shutdown(tcpip.ShutdownWrite)
	got := a.one("a FIN")
	a.send(fin, nil) // acknowledges nothing
	a.state(tcp.StateClosing)
	a.challenged("a FIN")
	a.ack = got.SequenceNumber() + 1
	a.send(ack, nil)
	a.state(tcp.StateTimeWait)
}

// The end comes after all that was written, though the window was closed.
func TestEndBehindData(t *testing.T) {
	a := connect(t, false)
	a.window = 0
	a.send(ack, nil)
	a.write([]byte("data"))
	a.conn.Close()
	a.nothing()
	a.state(tcp.StateFinWait1)
	a.window = appWindow
	a.send(ack, nil)
	all := a.got()
	if len(all) != 2 || string(all[0].Payload()) != "data" || !all[1].Flags().Contains(header.TCPFlagFin) {
		t.Fatal(all)
	}
	a.ack += 5
	a.send(ack, nil)
	a.state(tcp.StateFinWait2)
}

// An end before the app has completed the handshake comes after it, behind what was written.
func TestEndDuringHandshake(t *testing.T) {
	for _, data := range []string{"", "data"} {
		a := newApp(t, false)
		a.ack = a.one("a SYN-ACK").SequenceNumber() + 1
		if data != "" {
			a.write([]byte(data))
		}
		a.conn.Shutdown(tcpip.ShutdownWrite)
		a.nothing()
		a.state(tcp.StateSynRecv)
		a.send(ack, nil)
		a.state(tcp.StateFinWait1)
		all := a.got()
		if data != "" && string(all[0].Payload()) != data || all[len(all)-1].Flags() != fin {
			t.Fatal(all)
		}
		a.ack += uint32(len(data)) + 1
		a.send(ack, nil)
		a.state(tcp.StateFinWait2)
	}
}

// An app that completes a handshake which was given up in the very moment hears of that.
func TestAbortDuringHandshake(t *testing.T) {
	a := newApp(t, false)
	a.ack = a.one("a SYN-ACK").SequenceNumber() + 1
	a.conn.Abort()
	a.conn.Close()
	a.nothing()
	a.send(ack, nil)
	if s := a.one("a reset"); s.Flags() != header.TCPFlagRst || s.SequenceNumber() != a.ack {
		t.Error(s.Flags(), s.SequenceNumber())
	}
	a.send(header.TCPFlagRst|ack, nil)
	a.nothing()
}

// Data that nobody will read is answered with a reset.
func TestDataAfterClose(t *testing.T) {
	a := connect(t, false)
	a.conn.Close()
	a.fallen()
	a.send(ack, []byte("x"))
	if s := a.one("a reset"); !s.Flags().Contains(header.TCPFlagRst) || s.SequenceNumber() != a.ack {
		t.Error(s.Flags())
	}
	a.state(tcp.StateError)
}

// An abort resets the app's side, at the number that it expects, and lets go of everything.
func TestAbort(t *testing.T) {
	a := connect(t, false)
	a.send(ack, []byte("unread"))
	a.write([]byte("data"))
	a.got()
	a.conn.Abort()
	if s := a.one("a reset"); !s.Flags().Contains(header.TCPFlagRst) || s.SequenceNumber() != a.ack+4 {
		t.Error(s.Flags())
	}
	if a.conn.Unread() != 0 || a.conn.Unacknowledged() != 0 || a.expire() {
		t.Error("something is left")
	}
	a.conn.Abort()
	a.conn.Close()
	a.send(ack, []byte("more"))
	a.nothing()
}

// In the handshake: a repeated SYN is answered again, another one ends it, and so does the
// right reset; a wrong acknowledgement is reset and changes nothing.
func TestHandshake(t *testing.T) {
	a := newApp(t, false)
	s := a.one("a SYN-ACK")
	a.sendAt(appISN, header.TCPFlagSyn, nil)
	if again := a.one("a SYN-ACK"); again.SequenceNumber() != s.SequenceNumber() || again.Flags() != s.Flags() {
		t.Error(again)
	}
	a.ack = s.SequenceNumber() + 2
	a.send(ack, nil)
	if r := a.one("a reset"); r.Flags() != header.TCPFlagRst || r.SequenceNumber() != a.ack {
		t.Error(r.Flags())
	}
	a.sendAt(a.seq+1, header.TCPFlagRst, nil)
	a.conn.Unreachable(s.SequenceNumber() + 1)
	a.state(tcp.StateSynRecv)
	for _, end := range []func(*app){
		func(a *app) { a.sendAt(appISN+5, header.TCPFlagSyn, nil) },
		func(a *app) { a.send(header.TCPFlagRst, nil) },
		func(a *app) { a.conn.Unreachable(a.one("a SYN-ACK").SequenceNumber()) },
		func(a *app) { a.conn.Abort() },
	} {
		a := newApp(t, false)
		end(a)
		a.state(tcp.StateError)
	}
}
