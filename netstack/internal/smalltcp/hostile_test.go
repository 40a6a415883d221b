package smalltcp

import (
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/carry"
)

// sound fails the test if a connection has more than it may, or numbers in no order.
func (a *app) sound() {
	a.t.Helper()
	c := a.conn
	if c.unread.size > receiveBuffer || c.unsent.size > carry.SendBuffer || len(c.early) > earlyLimit || c.earlyBytes > receiveBuffer {
		a.t.Fatalf("%d unread, %d unsent, %d early with %d bytes", c.unread.size, c.unsent.size, len(c.early), c.earlyBytes)
	}
	if isBefore(c.next, c.oldest) || isBefore(c.furthest, c.next) || isBefore(c.edge, c.expected) {
		a.t.Fatalf("oldest %d, next %d, furthest %d, expected %d, edge %d", c.oldest, c.next, c.furthest, c.expected, c.edge)
	}
	for _, s := range []*chunks{&c.unread, &c.unsent} {
		sum := 0
		for _, k := range s.list {
			sum += len(k.data)
		}
		if sum != s.size {
			a.t.Fatalf("%d bytes, not %d", sum, s.size)
		}
	}
	if c.over() && (c.unsent.size > 0 || c.timing.set) {
		a.t.Fatal("it is over, and something is left")
	}
}

// random sends a segment that may be anything, most often something that almost fits.
func (a *app) random(payload []byte) {
	near := func(at uint32) uint32 {
		switch rand.IntN(6) {
		case 0:
			return rand.Uint32()
		case 1:
			return at + uint32(rand.IntN(1<<21)) - 1<<20
		case 2:
			return at + uint32(rand.IntN(5)) - 2
		}
		return at
	}
	c := a.conn
	a.seq = near(c.expected)
	a.ack = near([]uint32{c.oldest, c.next, c.furthest}[rand.IntN(3)])
	a.window = uint16([]int{0, 1, rand.IntN(1 << 16), largestWindow}[rand.IntN(4)])
	flags := ack
	switch rand.IntN(20) {
	case 0:
		flags = header.TCPFlags(rand.IntN(256))
	case 1:
		flags |= header.TCPFlagFin
	}
	if flags.Contains(header.TCPFlagRst) && a.seq == c.expected && rand.IntN(8) > 0 {
		a.seq++ // or it would be over too often
	}
	size := []int{0, 1, rand.IntN(2000), rand.IntN(len(payload))}[rand.IntN(4)]
	t := a.segment(flags, payload[:size], nil)
	switch rand.IntN(50) {
	case 0:
		t = t[:rand.IntN(len(t))]
	case 1:
		t[12] = byte(rand.Uint32())
	}
	c.Segment(t)
}

// A million segments that may be anything leave every connection in order, and in bounds.
func TestRandomSegments(t *testing.T) {
	total := 1_000_000
	if testing.Short() {
		total = 20_000
	}
	payload := make([]byte, 60000)
	for sent := 0; sent < total; {
		a := newApp(t, sent%2 == 0)
		if rand.IntN(10) > 0 {
			a.ack = a.one("a SYN-ACK").SequenceNumber() + 1
			a.send(ack, nil)
		}
		for range 5000 {
			sent++
			a.random(payload)
			if rand.IntN(4) > 0 {
				_, _ = a.conn.Read(&limited{left: rand.IntN(100000)}, tcpip.ReadOptions{})
			}
			a.conn.Keep()
			if rand.IntN(8) == 0 {
				a.host.Flush()
			}
			switch rand.IntN(200) {
			case 0:
				a.expire()
			case 1, 2, 3, 4, 5, 6, 7, 8:
				if a.conn.takesNot() == nil {
					a.write(payload[:rand.IntN(len(payload))])
				}
			case 9:
				a.conn.KeepAlive()
			case 10:
				if rand.IntN(20) == 0 {
					a.conn.Shutdown(tcpip.ShutdownWrite)
				}
			}
			a.sound()
			a.got()
			if a.conn.over() {
				break
			}
		}
		a.conn.Close()
		a.sound()
	}
}

// Bytes that are no segment, or half of one, do nothing.
func FuzzSegment(f *testing.F) {
	a := connect(f, false)
	f.Add([]byte(a.segment(ack, []byte("x"), nil)), uint16(3))
	f.Fuzz(func(t *testing.T, segment []byte, written uint16) {
		a := connect(t, false)
		a.write(make([]byte, written))
		a.conn.Segment(header.TCP(segment))
		a.conn.Keep()
		a.host.Flush()
		a.got()
		a.sound()
	})
}
