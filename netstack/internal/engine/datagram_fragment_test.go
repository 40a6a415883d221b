package engine

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/events"
)

// fragments cuts a datagram into IP fragments of size bytes.
func fragments(source, destination netip.AddrPort, payload []byte, size int, id uint16, zero bool) (packets [][]byte) {
	packet := udpPacket(source, destination, payload, zero, ipOptions{})
	ip := pick(source.Addr().Is6(), header.IPv6MinimumSize, header.IPv4MinimumSize)
	whole := packet[ip:]
	for at := 0; at < len(whole); at += size {
		end := min(at+size, len(whole))
		packets = append(packets, pieceOf(source.Addr(), destination.Addr(), whole[at:end], at, end < len(whole), id))
	}
	return packets
}

func pieceOf(source, destination netip.Addr, b []byte, offset int, more bool, id uint16) []byte {
	odd := ipOptions{more: more, fragmentOffset: uint16(offset), identification: id}
	if source.Is6() {
		place := binary.BigEndian.AppendUint16([]byte{17, 0}, uint16(offset)|pick[uint16](more, 1, 0))
		odd = ipOptions{next: 44, options: append(place, 0, 0, byte(id>>8), byte(id))}
	}
	return ipPacket(source, destination, 17, b, odd)
}

func (p *player) sendFragments(source, destination netip.AddrPort, payload []byte, size int, id uint16) {
	p.t.Helper()
	for _, packet := range fragments(source, destination, payload, size, id, false) {
		p.send(packet)
	}
}

// Fragments are put together, in any order, up to the largest datagram that there
// is, whether it makes the request or comes later; fragments are made of a reply
// that does not fit the MTU.
func TestFragments(t *testing.T) {
	// The relay's header takes room in the leg's own packets.
	const largest = 65507
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		w := newWorld(t, v)
		p, o := newPlayer(w), newOutside(t)
		app, far := v.ends()
		room := largest - len(socksHeader(far))
		_, leg := p.socksFlow(o, app, far)
		for i, size := range []int{1400, 1473, 8000, room - 1, room} {
			payload := pattern(i, size)
			packets := fragments(app, far, payload, 1400, uint16(100+i), false)
			rand.New(rand.NewPCG(1, uint64(i))).Shuffle(len(packets), func(a, b int) { packets[a], packets[b] = packets[b], packets[a] })
			for _, packet := range packets {
				p.send(packet)
			}
			if b, _ := o.read(); !bytes.Equal(b, framed(far, payload)) {
				t.Fatalf("%d bytes came as %d", size, len(b))
			}
			o.write(framed(far, payload), leg)
			if g := p.datagram(); g.source != far || g.destination != app || !bytes.Equal(g.payload, payload) {
				t.Fatalf("%d bytes came back as %d from %s", size, len(g.payload), g.source)
			}
		}
		// What no leg can carry is no error of anybody's.
		p.sendFragments(app, far, pattern(0, largest), 1400, 200)
		p.sendFragments(app, far, []byte("whole"), 1400, 201)
		if b, _ := o.read(); !bytes.Equal(b, framed(far, []byte("whole"))) {
			t.Errorf("%d bytes", len(b))
		}
		if s := w.stats(); s.DropSend != 1 || s.DropReply != 0 || s.DropWrite != 0 || s.Associations != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// The border between a whole reply and one in fragments is the MTU.
func TestFragmentsFromTheMTUOn(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p, o := newPlayer(newWorld(t, v)), newOutside(t)
		app, far := v.ends()
		_, leg := p.socksFlow(o, app, far)
		fits := testMTU - header.UDPMinimumSize - pick(v.six, header.IPv6MinimumSize, header.IPv4MinimumSize)
		for size, packets := range map[int]uint64{fits: 1, fits + 1: 2} {
			before := p.stats().PacketsOut
			o.write(framed(far, pattern(0, size)), leg)
			if g := p.datagram(); !bytes.Equal(g.payload, pattern(0, size)) {
				t.Errorf("%d bytes came as %d", size, len(g.payload))
			}
			if n := p.stats().PacketsOut - before; n != packets {
				t.Errorf("%d bytes in %d packets", size, n)
			}
		}
		// One whose sum comes out as 0, which would say that there is none.
		payload := make([]byte, 3000)
		whole := udpPacket(far, app, payload, false, ipOptions{})
		copy(payload, header.UDP(whole[len(whole)-len(payload)-header.UDPMinimumSize:])[6:8])
		o.write(framed(far, payload), leg)
		if g := p.datagram(); !bytes.Equal(g.payload, payload) {
			t.Errorf("%d bytes came", len(g.payload))
		}
	})
}

// Fragments make a request like any datagram, and a wrong checksum none.
func TestFragmentsMakeARequest(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		packets := fragments(app, far, pattern(0, 3000), 1000, 5, false)
		packets[1][len(packets[1])-1] ^= 1
		for _, packet := range packets {
			p.send(packet)
		}
		p.silence()
		for _, packet := range fragments(app, far, pattern(0, 3000), 1000, 6, true) {
			p.send(packet)
		}
		p.silence()
		want := pick(v.six, 0, 1) // without a checksum: RFC 8200, section 8.1
		if n := len(p.events(events.UDPRequest)); n != want {
			t.Errorf("%d requests", n)
		}
		if n := p.stats().ChecksumErrors; n != uint64(2-want) {
			t.Errorf("%d checksum errors", n)
		}
		other := netip.AddrPortFrom(far.Addr(), 99)
		p.sendFragments(app, other, pattern(0, 3000), 1000, 8)
		if e := p.event(events.UDPRequest, want+1); e.DestPort != 99 {
			t.Errorf("%s", describe(e))
		}
	})
}

// Fragments that overlap, lie, or never become whole are no datagram and no harm,
// and what they hold is bounded.
func TestFragmentsThatLie(t *testing.T) {
	forEach(t, everyVariant(), func(t *testing.T, v variant) {
		p := newPlayer(newWorld(t, v))
		app, far := v.ends()
		whole := fragments(app, far, pattern(0, 4000), 1000, 1, false)
		b := pattern(0, 1000)
		cut := func(offset, size int, more bool, id uint16) []byte {
			return pieceOf(app.Addr(), far.Addr(), b[:size], offset, more, id)
		}
		for _, packet := range [][]byte{
			whole[0], cut(504, 1000, true, 1), whole[1], whole[2], whole[3], // overlaps another
			cut(0, 1000, true, 2), cut(0, 600, true, 2), cut(600, 400, false, 2),
			cut(0, 1000, true, 3), cut(65520, 16, false, 3), // past the end
			cut(65528, 1000, false, 4), cut(0, 7, true, 5), cut(8, 0, true, 6), cut(0, 0, false, 7),
			cut(0, 4, false, 8), cut(1000, 1000, false, 9), cut(2000, 1000, false, 9), cut(0, 8, true, 10), cut(8, 8, false, 10),
		} {
			p.send(packet)
		}
		p.mark(func(r received) {
			if !v.six || r.protocol != uint8(header.ICMPv6ProtocolNumber) || r.payload[0] != byte(header.ICMPv6ParamProblem) {
				t.Errorf("this came out: %s", r) // but for what RFC 8200, section 4.5, asks for
			}
		})
		if n := len(p.events(events.UDPRequest)); n != 0 {
			t.Errorf("%d requests: %+v", n, p.events(events.UDPRequest))
		}
		random := rand.New(rand.NewPCG(3, 4))
		for i := range 5000 {
			p.send(cut(random.IntN(8000)*8, random.IntN(len(b)), random.IntN(2) == 0, uint16(i%50)))
		}
		p.mark(func(received) {})
		before := heap()
		for i := range 20000 {
			p.send(pieceOf(app.Addr(), far.Addr(), b, 8, true, uint16(i)))
		}
		p.mark(func(received) {})
		if now := heap(); now > before+16<<20 {
			t.Errorf("%d bytes are held", now-before)
		}
		p.stillWorks(51000)
	})
}

// heap is the bytes of live objects.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
