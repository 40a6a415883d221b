package smalltcp

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	parser "gvisor.dev/gvisor/pkg/tcpip/header/parse"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/link"
)

// These tests play the app, segment by segment. The loop is closed, so that a timer expires
// when a test says so.

const (
	testMTU   = 1500
	appISN    = 0xfffffe00 // numbers wrap around soon
	appMSS    = 1000
	appShift  = 3
	appWindow = 0x2000 // 64 KiB with the shift
)

// app is the app's end of a connection.
type app struct {
	t     testing.TB
	six   bool
	host  *Host
	conn  *Conn
	queue waiter.Queue
	fd    int // the test's end of the device

	seq, ack uint32 // of what the app sends next
	window   uint16

	buffer [2 * testMTU]byte
}

// newApp sends a SYN.
func newApp(t testing.TB, six bool, options ...byte) *app {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20))
	t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
	loop, err := carry.NewLoop(time.Hour)
	must(t, err)
	loop.Close()
	a := &app{t: t, six: six, fd: fds[1], host: NewHost(link.New(fds[0], testMTU, false)), seq: appISN, window: appWindow}
	if options == nil {
		options = []byte{2, 4, appMSS >> 8, appMSS & 0xff, 1, 3, 3, appShift}
	}
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(a.packet(header.TCPFlagSyn, nil, options))})
	defer packet.DecRef()
	if six {
		parser.IPv6(packet)
	} else {
		parser.IPv4(packet)
	}
	if !parser.TCP(packet) {
		t.Fatal("the SYN is malformed")
	}
	a.conn = a.host.Open(packet, loop, &a.queue)
	a.seq++
	return a
}

// connect is newApp with the handshake.
func connect(t testing.TB, six bool) *app {
	t.Helper()
	a := newApp(t, six)
	a.ack = a.one("a SYN-ACK").SequenceNumber() + 1
	a.send(header.TCPFlagAck, nil)
	a.nothing()
	a.state(tcp.StateEstablished)
	a.expire() // the SYN-ACK's
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func forFamilies(t *testing.T, f func(*testing.T, bool)) {
	t.Run("4", func(t *testing.T) { f(t, false) })
	t.Run("6", func(t *testing.T) { f(t, true) })
}

var (
	appAddress4 = tcpip.AddrFrom4([4]byte{198, 18, 0, 2})
	farAddress4 = tcpip.AddrFrom4([4]byte{203, 0, 113, 7})
	appAddress6 = tcpip.AddrFrom16([16]byte{0xfd, 15: 2})
	farAddress6 = tcpip.AddrFrom16([16]byte{0x20, 0x01, 15: 7})
)

// segment is a TCP segment of the app without a checksum.
func (a *app) segment(flags header.TCPFlags, payload, options []byte) header.TCP {
	size := header.TCPMinimumSize + len(options)
	b := make([]byte, size+len(payload))
	header.TCP(b).Encode(&header.TCPFields{
		SrcPort: 40000, DstPort: 443, SeqNum: a.seq, AckNum: a.ack,
		DataOffset: uint8(size), Flags: flags, WindowSize: a.window,
	})
	copy(b[header.TCPMinimumSize:], options)
	copy(b[size:], payload)
	return b
}

// packet is a segment with an IP header.
func (a *app) packet(flags header.TCPFlags, payload, options []byte) []byte {
	t := a.segment(flags, payload, options)
	if a.six {
		b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(t))
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(t)), TransportProtocol: header.TCPProtocolNumber,
			SrcAddr: appAddress6, DstAddr: farAddress6,
		})
		return append(b, t...)
	}
	b := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(t))
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: uint16(cap(b)), Protocol: uint8(header.TCPProtocolNumber),
		SrcAddr: appAddress4, DstAddr: farAddress4,
	})
	return append(b, t...)
}

// send sends a segment, as the thread that has the device does, and goes on behind it.
func (a *app) send(flags header.TCPFlags, payload []byte) {
	a.conn.Segment(a.segment(flags, payload, nil))
	a.conn.Keep()
	a.host.Flush()
	a.seq += uint32(len(payload))
	if flags.Contains(header.TCPFlagFin) {
		a.seq++
	}
}

// sendAt is send from another number, and stays where it is.
func (a *app) sendAt(seq uint32, flags header.TCPFlags, payload []byte) {
	before := a.seq
	a.seq = seq
	a.send(flags, payload)
	a.seq = before
}

// got is what has come to the app since the last call.
func (a *app) got() (all []header.TCP) {
	a.t.Helper()
	for {
		n, err := unix.Read(a.fd, a.buffer[:])
		if err != nil {
			return all
		}
		all = append(all, a.check(bytes.Clone(a.buffer[:n])))
	}
}

// check is the segment in a packet, whose headers are right.
func (a *app) check(b []byte) header.TCP {
	a.t.Helper()
	size, source, destination := header.IPv4MinimumSize, farAddress4, appAddress4
	if a.six {
		size, source, destination = header.IPv6MinimumSize, farAddress6, appAddress6
		if ip := header.IPv6(b); !ip.IsValid(len(b)) || int(ip.PayloadLength())+size != len(b) || ip.SourceAddress() != source || ip.DestinationAddress() != destination {
			a.t.Fatalf("% x", b)
		}
	} else if ip := header.IPv4(b); !ip.IsValid(len(b)) || !ip.IsChecksumValid() || int(ip.TotalLength()) != len(b) || ip.SourceAddress() != source || ip.DestinationAddress() != destination {
		a.t.Fatalf("% x", b)
	}
	t := header.TCP(b[size:])
	payload := t.Payload()
	if !t.IsChecksumValid(source, destination, checksum.Checksum(payload, 0), uint16(len(payload))) {
		a.t.Fatalf("% x", b)
	}
	if len(payload) > appMSS {
		a.t.Fatalf("%d bytes in one segment", len(payload))
	}
	return t
}

// one is the only segment that has come.
func (a *app) one(what string) header.TCP {
	a.t.Helper()
	all := a.got()
	if len(all) != 1 {
		a.t.Fatalf("%d segments instead of %s", len(all), what)
	}
	return all[0]
}

func (a *app) nothing() {
	a.t.Helper()
	if all := a.got(); len(all) > 0 {
		a.t.Fatalf("%d segments came: %s", len(all), all[0].Flags())
	}
}

// challenged: an acknowledgement came, of what the connection expects.
func (a *app) challenged(what string) {
	a.t.Helper()
	t := a.one("an acknowledgement of " + what)
	if t.Flags() != header.TCPFlagAck || t.AckNumber() != a.seq || len(t.Payload()) > 0 {
		a.t.Fatalf("%s: %s, acknowledges %d, not %d", what, t.Flags(), t.AckNumber(), a.seq)
	}
}

func (a *app) state(want tcp.EndpointState) {
	a.t.Helper()
	if got := a.conn.EndpointState(); got != want {
		a.t.Fatalf("the state is %s, not %s", got, want)
	}
}

// read is what the upstream gets.
func (a *app) read() (string, tcpip.Error) {
	var b bytes.Buffer
	_, err := a.conn.Read(&b, tcpip.ReadOptions{})
	return b.String(), err
}

// write is bytes of the upstream; it returns how many were taken.
func (a *app) write(p []byte) int {
	a.t.Helper()
	n, err := a.conn.Write(bytes.NewReader(p), tcpip.WriteOptions{})
	if _, full := err.(*tcpip.ErrWouldBlock); err != nil && !full {
		a.t.Fatal(err)
	}
	return int(n)
}

// expire has the timer expire, if it is set.
func (a *app) expire() bool {
	if !a.conn.timing.set {
		return false
	}
	a.conn.Expired()
	return true
}

func is[T tcpip.Error](err tcpip.Error) bool {
	_, ok := err.(T)
	return ok
}
