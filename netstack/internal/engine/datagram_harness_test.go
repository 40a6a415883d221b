package engine

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/events"
)

// outside is a UDP socket over loopback that the test answers from: what a leg's
// datagrams reach.
type outside struct {
	t    *testing.T
	conn *net.UDPConn
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadBuffer(8 << 20)
	return &outside{t, conn}
}

// relayLeg is a socket that is connected to the outside, as to a SOCKS5 relay.
func (o *outside) relayLeg() int {
	o.t.Helper()
	a := o.conn.LocalAddr().(*net.UDPAddr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(o.t, err)
	must(o.t, unix.Connect(fd, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}))
	return fd
}

func (o *outside) read() (payload []byte, from netip.AddrPort) {
	o.t.Helper()
	must(o.t, o.conn.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 70000)
	n, from, err := o.conn.ReadFromUDPAddrPort(buffer)
	must(o.t, err)
	return buffer[:n], from
}

func (o *outside) write(payload []byte, to netip.AddrPort) {
	o.t.Helper()
	_, err := o.conn.WriteToUDPAddrPort(payload, to)
	must(o.t, err)
}

// silence fails if anything has come that was not read.
func (o *outside) silence() {
	o.t.Helper()
	must(o.t, o.conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	buffer := make([]byte, 70000)
	if n, _, err := o.conn.ReadFromUDPAddrPort(buffer); err == nil {
		o.t.Errorf("this came: % x", buffer[:min(n, 64)])
	}
}

// socksHeader is the header of RFC 1928, section 7, for an address.
func socksHeader(a netip.AddrPort) []byte {
	b := append([]byte{0, 0, 0, pick[byte](a.Addr().Is6(), 4, 1)}, a.Addr().AsSlice()...)
	return append(b, byte(a.Port()>>8), byte(a.Port()))
}

func framed(a netip.AddrPort, payload []byte) []byte { return append(socksHeader(a), payload...) }

// got is one datagram that the app received.
type got struct {
	source, destination netip.AddrPort
	payload             []byte
}

// inbox puts together what the app's kernel would: datagrams that came in one
// packet, and fragments.
type inbox struct {
	whole  []got
	pieces map[string][]received
}

// datagram waits for the next datagram that comes out of the device.
func (p *player) datagram() got {
	p.t.Helper()
	for len(p.inbox.whole) == 0 {
		p.accept(p.next())
	}
	g := p.inbox.whole[0]
	p.inbox.whole = p.inbox.whole[1:]
	return g
}

func (p *player) accept(r received) {
	p.t.Helper()
	switch {
	case r.piece != nil:
		p.assemble(r)
	case r.protocol != uint8(header.UDPProtocolNumber):
		p.t.Fatalf("this is no datagram: %s", r)
	default:
		p.inbox.add(r, r.payload)
	}
}

func (b *inbox) add(r received, transport []byte) {
	udp := header.UDP(transport)
	g := got{netip.AddrPortFrom(r.source, udp.SourcePort()), netip.AddrPortFrom(r.destination, udp.DestinationPort()), transport[header.UDPMinimumSize:]}
	for rest := g.payload; r.segment > 0 && len(rest) > r.segment; g.payload = rest {
		g.payload = rest[:r.segment]
		b.whole = append(b.whole, g)
		rest = rest[r.segment:]
	}
	b.whole = append(b.whole, g)
}

func (p *player) assemble(r received) {
	p.t.Helper()
	key := fmt.Sprint(r.source, r.destination, r.piece.id)
	if p.inbox.pieces == nil {
		p.inbox.pieces = map[string][]received{}
	}
	pieces := append(p.inbox.pieces[key], r)
	slices.SortFunc(pieces, func(a, b received) int { return a.piece.offset - b.piece.offset })
	p.inbox.pieces[key] = pieces
	var whole []byte
	for _, piece := range pieces {
		if piece.piece.offset != len(whole) {
			return
		}
		whole = append(whole, piece.payload...)
	}
	if pieces[len(pieces)-1].piece.more {
		return
	}
	delete(p.inbox.pieces, key)
	sum := pseudo(r.source, r.destination, r.protocol, len(whole))
	if checksum.Checksum(whole, sum) != 0xffff || header.UDP(whole).Checksum() == 0 || int(header.UDP(whole).Length()) != len(whole) {
		p.t.Fatalf("a datagram of %d bytes in %d fragments is damaged", len(whole), len(pieces))
	}
	p.inbox.add(r, whole)
}

// sendDatagram sends one as the app.
func (p *player) sendDatagram(source, destination netip.AddrPort, payload []byte) {
	p.t.Helper()
	p.send(udpPacket(source, destination, payload, false, ipOptions{}))
}

// datagramFlow sends one datagram and returns the request it became.
func (p *player) datagramFlow(source, destination netip.AddrPort, payload []byte) events.Event {
	p.t.Helper()
	n := len(p.events(events.UDPRequest))
	p.sendDatagram(source, destination, payload)
	return p.event(events.UDPRequest, n+1)
}

// ends are an app's address and a far one.
func (v variant) ends() (app, far netip.AddrPort) {
	return netip.AddrPortFrom(v.app(), 5000), netip.AddrPortFrom(v.far(), 5001)
}

func (w *world) associate(fd int, leg datagram.Leg, shared bool) (id uint64) {
	w.t.Helper()
	var err error
	w.do(func(e *Engine) { id, err = e.Datagrams().Associate(fd, leg, shared, "") })
	must(w.t, err)
	return id
}

func (w *world) associateName(fd int, name string) (id uint64) {
	w.t.Helper()
	var err error
	w.do(func(e *Engine) { id, err = e.Datagrams().Associate(fd, datagram.Socks5, false, name) })
	must(w.t, err)
	return id
}

func (w *world) attach(flow, association uint64) (err error) {
	w.t.Helper()
	w.do(func(e *Engine) { err = e.Datagrams().Attach(flow, association, nil, 0) })
	return err
}

// socksFlow is a flow that is attached to a SOCKS5 leg, its first datagram
// received; leg is where the outside sees it come from.
func (p *player) socksFlow(o *outside, app, far netip.AddrPort) (id uint64, leg netip.AddrPort) {
	p.t.Helper()
	request := p.datagramFlow(app, far, []byte("first"))
	id = p.associate(o.relayLeg(), datagram.Socks5, false)
	must(p.t, p.attach(request.Flow, id))
	_, leg = o.read()
	return id, leg
}

// holdLoops keeps the engine's loops from working until the function is called.
func (w *world) holdLoops() (release func()) {
	held := make(chan struct{})
	for _, loop := range w.engine.loops {
		started := make(chan struct{})
		loop.Call(func() { close(started); <-held })
		<-started
	}
	release = sync.OnceFunc(func() { close(held) })
	w.t.Cleanup(release)
	return release
}

// associationClosed waits for the event of an association's end.
func (w *world) associationClosed(id uint64, want unix.Errno) {
	w.t.Helper()
	var e events.Event
	eventually(w.t, "the association's end", func() bool {
		for _, e = range w.events(events.AssociationClosed) {
			if e.Flow == id {
				return true
			}
		}
		return false
	})
	if unix.Errno(e.Error) != want {
		w.t.Errorf("it ended with %v, not with %v", unix.Errno(e.Error), want)
	}
}
