package carry

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// All that is in the socket goes to the app, whatever the reads are cut short by: urgent data,
// at which each read stops, or the end that comes right behind the data.
func TestShortReads(t *testing.T) {
	f := newTCPFixture(t, time.Hour)
	f.flow.Start()
	// All of it is there before the loop looks.
	goOn, waits := make(chan struct{}), make(chan struct{})
	f.loop.Call(func() { close(waits); <-goOn })
	<-waits
	for _, part := range []struct {
		data  string
		flags int
	}{{"before", 0}, {"!", unix.MSG_OOB}, {"after", 0}} {
		if err := unix.Send(f.upstream, []byte(part.data), part.flags); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	got := ""
	for got != "beforeafter" {
		got += string(f.Await("the rest of "+got, header.TCPFlagPsh).Payload())
		f.pump(header.TCPFlagAck, nil)
	}
	_, _ = unix.Write(f.upstream, []byte("last"))
	_ = unix.Shutdown(f.upstream, unix.SHUT_WR)
	if last := f.Await("the last of it", header.TCPFlagPsh); string(last.Payload()) != "last" {
		t.Errorf("the app got %q", last.Payload())
	}
	f.pump(header.TCPFlagAck, nil)
	f.Await("the end", header.TCPFlagFin)
}

// A flow whose questions are answered at once is known to be quick, until one is not.
func TestQuick(t *testing.T) {
	f := newFixture(t, time.Hour)
	f.flow.Start()
	for end := time.Now().Add(patience); !f.flow.Quick(); {
		if time.Now().After(end) {
			t.Fatal("it is never quick")
		}
		f.pump(header.TCPFlagAck|header.TCPFlagPsh, []byte("question"))
		if _, err := unix.Write(f.upstream, []byte("answer")); err != nil {
			t.Fatal(err)
		}
		f.Await("the answer", header.TCPFlagPsh)
	}
	f.pump(header.TCPFlagAck|header.TCPFlagPsh, []byte("question"))
	asked := make(chan struct{})
	f.loop.Call(func() { f.flow.askedAt = clock() - time.Minute; close(asked) })
	<-asked
	_, _ = unix.Write(f.upstream, []byte("answer"))
	f.Await("the answer", header.TCPFlagPsh)
	for end := time.Now().Add(patience); f.flow.Quick(); {
		if time.Now().After(end) {
			t.Fatal("it is quick for ever")
		}
	}
}
