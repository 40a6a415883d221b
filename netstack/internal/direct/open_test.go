package direct_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/direct"
	"nanotun/netstack/internal/enginetest"
)

// These tests fail when gVisor changes what the names mean that open.go links to. The
// processors are paused, as in the tests beside.

const window = 1 << 20

// maximumSegment is the SYN's option 2 of RFC 9293.
var maximumSegment = []byte{2, 4, 0x03, 0xe8}

// begin has a listener answer a SYN with these options.
func begin(t *testing.T, options []byte) *fixture {
	t.Helper()
	f := &fixture{t: t, Peer: enginetest.New(t)}
	f.Stack.Pause()
	t.Cleanup(f.Stack.Resume)
	sack, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0)
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &recovery} {
		if err := f.Stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			t.Fatal(err)
		}
	}
	f.Options = options
	listener := direct.NewListener(f.Stack, window)
	f.SYN(func(id stack.TransportEndpointID, packet *stack.PacketBuffer) {
		var err tcpip.Error
		if f.Endpoint, err = listener.Open(id, packet, &f.queue); err != nil {
			t.Fatal(err)
		}
	})
	f.Options = nil
	f.state(tcp.StateSynRecv)
	return f
}

// synACK takes the SYN-ACK, which has been sent.
func (f *fixture) synACK() header.TCP {
	f.t.Helper()
	segment := f.Sent()
	if segment == nil || segment.Flags() != header.TCPFlagSyn|header.TCPFlagAck {
		f.t.Fatalf("no SYN-ACK was sent, but %v", segment)
	}
	return segment
}

// quiet fails if something was sent.
func (f *fixture) quiet() {
	f.t.Helper()
	if segment := f.Sent(); segment != nil {
		f.t.Errorf("%s was sent", segment.Flags())
	}
}

// The SYN-ACK is sent before Open returns; the ACK makes a connection that carries both
// ways, and its writer is notified of that.
func TestOpen(t *testing.T) {
	f := begin(t, maximumSegment)
	synACK := f.synACK()
	if synACK.AckNumber() != 1001 || synACK.WindowSize() == 0 {
		t.Errorf("it acknowledges %d, and the window is %d", synACK.AckNumber(), synACK.WindowSize())
	}
	if direct.Connected(f.Endpoint) || direct.Failed(f.Endpoint) {
		t.Error("it is over before the ACK")
	}
	entry, channel := waiter.NewChannelEntry(waiter.WritableEvents)
	f.queue.EventRegister(&entry)
	defer f.queue.EventUnregister(&entry)
	f.handle(header.TCPFlagAck, nil)
	f.state(tcp.StateEstablished)
	if !direct.Connected(f.Endpoint) || direct.Failed(f.Endpoint) || !notified(channel) {
		t.Error("nobody can tell that it is connected")
	}
	f.quiet()
	f.handle(header.TCPFlagAck, []byte("up"))
	if got, err := f.read(); got != "up" {
		t.Errorf("read %q, %v", got, err)
	}
	f.Await("an acknowledgement", header.TCPFlagAck)
	f.write("down")
	if segment := f.Sent(); segment == nil || string(segment.Payload()) != "down" {
		t.Errorf("%v was sent", segment)
	}
}

// Each option that the SYN offers is answered and used, and none that it does not offer.
func TestOpenOptions(t *testing.T) {
	const value = 77
	stamp := func(value, echo uint32) []byte {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, value), echo)
	}
	for _, all := range []bool{false, true} {
		options := maximumSegment
		if all {
			options = append(append(append([]byte{}, maximumSegment...), 1, 1, 4, 2, 1, 3, 3, 5), stamp(value, 0)...)
		}
		f := begin(t, options)
		offered := header.ParseSynOptions(f.synACK().Options(), true)
		if offered.MSS != 1500-header.IPv4MinimumSize-header.TCPMinimumSize {
			t.Errorf("MSS %d", offered.MSS)
		}
		if offered.TS != all || offered.SACKPermitted != all || (offered.WS > 0) != all || all && offered.TSEcr != value {
			t.Errorf("all: %t, and %+v", all, offered)
		}
		if all { // one without the time is none (RFC 7323, section 3.2)
			f.handle(header.TCPFlagAck, nil)
			f.state(tcp.StateSynRecv)
			f.Options = stamp(value+1, offered.TSVal)
		}
		f.handle(header.TCPFlagAck, nil)
		f.state(tcp.StateEstablished)
		f.write(string(make([]byte, 10000)))
		segment := f.Sent()
		if segment == nil {
			t.Fatal("nothing was sent")
		}
		parsed := segment.ParsedOptions()
		if parsed.TS != all || all && parsed.TSEcr != value+1 {
			t.Errorf("all: %t, and data with %+v", all, parsed)
		}
		if got := len(segment.Payload()); got > 1000 || got < 900 { // the peer's MSS
			t.Errorf("a segment of %d bytes", got)
		}
		if got := int(segment.WindowSize()) << max(offered.WS, 0); all && got < window/4 || got == 0 {
			t.Errorf("all: %t, and a window of %d bytes", all, got)
		}
	}
}

func (f *fixture) write(data string) {
	f.t.Helper()
	if n, err := f.Endpoint.Write(strings.NewReader(data), tcpip.WriteOptions{}); int(n) != len(data) {
		f.t.Fatal(n, err)
	}
}

// The SYN-ACK is repeated on the stack's own timer, in the same words.
func TestOpenRepeats(t *testing.T) {
	f := begin(t, maximumSegment)
	first := f.synACK()
	second := f.Await("another SYN-ACK", header.TCPFlagSyn)
	if second.SequenceNumber() != first.SequenceNumber() || string(second.Options()) != string(first.Options()) {
		t.Errorf("%v, and then %v", first, second)
	}
	f.handle(header.TCPFlagAck, nil)
	f.state(tcp.StateEstablished)
}

// The app's repeated SYN is acknowledged and changes nothing.
func TestOpenRepeatedSYN(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	f.Skip(^uint32(0), 0) // where the SYN was
	f.handle(header.TCPFlagSyn, nil)
	f.state(tcp.StateSynRecv)
	if segment := f.Sent(); segment == nil || segment.AckNumber() != 1001 {
		t.Errorf("it was answered with %v", segment)
	}
	f.handle(header.TCPFlagAck, nil)
	f.state(tcp.StateEstablished)
}

// A SYN that begins another connection ends this one with a reset.
func TestOpenAnotherSYN(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	channel := f.watch()
	f.Skip(5000, 0)
	f.handle(header.TCPFlagSyn, nil)
	f.state(tcp.StateError)
	if !direct.Failed(f.Endpoint) || !notified(channel) {
		t.Error("nobody can tell that it has failed")
	}
	if segment := f.Sent(); segment == nil || !segment.Flags().Contains(header.TCPFlagRst) {
		t.Errorf("it was answered with %v", segment)
	}
}

// An ACK of something else is answered with a reset, whatever comes with it, and the right
// one is still taken.
func TestOpenWrongACK(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	const wrong = 12345
	for _, payload := range []string{"", "x"} {
		f.Skip(0, wrong)
		f.handle(header.TCPFlagAck, []byte(payload))
		f.state(tcp.StateSynRecv)
		if segment := f.Sent(); segment == nil || segment.Flags() != header.TCPFlagRst {
			t.Errorf("it was answered with %v", segment)
		}
		f.Skip(-uint32(len(payload)), ^uint32(wrong)+1)
	}
	f.handle(header.TCPFlagAck, nil)
	f.state(tcp.StateEstablished)
	if got, err := f.read(); got != "" {
		t.Errorf("read %q, %v", got, err)
	}
}

// A segment outside of the window is answered with an acknowledgement, and ignored.
func TestOpenWrongSequence(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	f.Skip(1<<31, 0)
	f.handle(header.TCPFlagAck, []byte("x"))
	f.state(tcp.StateSynRecv)
	if segment := f.Sent(); segment == nil || segment.Flags() != header.TCPFlagAck || segment.AckNumber() != 1001 {
		t.Errorf("it was answered with %v", segment)
	}
}

// A reset in the window ends the handshake, is notified of and not answered; another one
// does nothing.
func TestOpenRST(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	channel := f.watch()
	f.Skip(1<<31, 0)
	f.handle(header.TCPFlagRst, nil)
	f.state(tcp.StateSynRecv)
	f.Skip(1<<31, 0)
	f.handle(header.TCPFlagRst, nil)
	f.state(tcp.StateError)
	if !notified(channel) || !is[*tcpip.ErrConnectionRefused](f.Endpoint.LastError()) {
		t.Error("nobody is told")
	}
	f.quiet()
	f.Endpoint.Close()
	f.handle(header.TCPFlagAck, nil) // and what comes later is nobody's
}

// Data, and an end, that come with the ACK are handled with it.
func TestOpenWithMore(t *testing.T) {
	for _, fin := range []bool{false, true} {
		f := begin(t, maximumSegment)
		f.synACK()
		flags, state := header.TCPFlags(header.TCPFlagAck), tcp.StateEstablished
		if fin {
			flags, state = flags|header.TCPFlagFin, tcp.StateCloseWait
		}
		f.handle(flags, []byte("early"))
		f.state(state)
		if !direct.Connected(f.Endpoint) {
			t.Error("it is not connected")
		}
		if got, err := f.read(); got != "early" {
			t.Errorf("read %q, %v", got, err)
		}
		if fin {
			if _, err := f.read(); !is[*tcpip.ErrClosedForReceive](err) {
				t.Errorf("the end is %v", err)
			}
		}
	}
}

// Everything that was queued since Begin is handled: the ACK, data, and an end.
func TestOpenSeveralSegments(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	direct.Begin(f.Endpoint)
	f.Send(header.TCPFlagAck, nil)
	f.Send(header.TCPFlagAck, []byte("one "))
	f.Send(header.TCPFlagAck|header.TCPFlagFin, []byte("two"))
	direct.Finish(f.Endpoint, &f.queue)
	f.state(tcp.StateCloseWait)
	if got, err := f.read(); got != "one two" {
		t.Errorf("read %q, %v", got, err)
	}
}

// Abort ends a handshake without a word to the app.
func TestOpenAbort(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	channel := f.watch()
	f.Endpoint.Abort()
	if !direct.Failed(f.Endpoint) || !notified(channel) {
		t.Error("nobody can tell that it has failed")
	}
	f.quiet()
}

// A tuple that has an endpoint gets no second one.
func TestOpenTwice(t *testing.T) {
	f := begin(t, maximumSegment)
	f.synACK()
	listener := direct.NewListener(f.Stack, window)
	info := f.Endpoint.Info().(*stack.TransportEndpointInfo)
	packet := enginetest.New(t)
	packet.SYN(func(_ stack.TransportEndpointID, syn *stack.PacketBuffer) {
		if ep, err := listener.Open(info.ID, syn, &f.queue); ep != nil || err == nil {
			t.Errorf("there is one: %v", err)
		}
	})
	f.handle(header.TCPFlagAck, nil)
	f.state(tcp.StateEstablished)
}

// Only a handshake that Finish completes is one that the app has acknowledged, and leaves
// nothing behind; gVisor's processor takes an ACK of something else.
func TestAcknowledged(t *testing.T) {
	for _, inPlace := range []bool{true, false} {
		f := begin(t, maximumSegment)
		f.synACK()
		if direct.Acknowledged(f.Endpoint) {
			t.Error("it is so before the ACK")
		}
		if inPlace {
			f.handle(header.TCPFlagAck, nil)
		} else {
			f.Skip(0, 12345)
			f.Send(header.TCPFlagAck, nil)
			f.Stack.Resume()
			f.Stack.Pause() // when the processors are idle
		}
		f.state(tcp.StateEstablished)
		if got := direct.Acknowledged(f.Endpoint); got != inPlace {
			t.Errorf("in place: %t, and acknowledged: %t", inPlace, got)
		}
	}
}

// An endpoint that is to expect losses repeats its last segment first, as only RACK does
// (RFC 8985, section 7), and has CUBIC; any other one repeats its first.
func TestExpectLoss(t *testing.T) {
	for _, expects := range []bool{false, true} {
		f := begin(t, append(bytes.Clone(maximumSegment), 1, 1, 4, 2))
		reno := tcpip.CongestionControlOption("reno")
		if err := f.Endpoint.SetSockOpt(&reno); err != nil {
			t.Fatal(err)
		}
		want := reno
		if expects {
			direct.ExpectLoss(f.Endpoint)
			want = "cubic"
		}
		var got tcpip.CongestionControlOption
		if err := f.Endpoint.GetSockOpt(&got); err != nil || got != want {
			t.Errorf("it has %q, not %q; %v", got, want, err)
		}
		f.synACK()
		f.handle(header.TCPFlagAck, nil)
		f.write(string(make([]byte, 1900)))
		first, last := f.Sent(), f.Sent()
		if first == nil || last == nil {
			t.Fatal("no two segments were sent")
		}
		repeated := first
		if expects {
			repeated = last
		}
		if segment := f.Await("a repetition", header.TCPFlagAck); segment.SequenceNumber() != repeated.SequenceNumber() {
			t.Errorf("expects: %t, and another segment is repeated", expects)
		}
	}
}
