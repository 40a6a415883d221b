package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/link"
)

// appBuffer is what the app's machine takes for a program that does not read.
const appBuffer = 1 << 20

// app is the machine on the other side of the device: a stack with real TCP.
type app struct {
	*world
	stack *stack.Stack
	link  *link.Endpoint
	stop  chan struct{}
	ended chan struct{}
	once  sync.Once
}

func newApp(w *world) *app {
	t := w.t
	t.Helper()
	a := &app{world: w, stop: make(chan struct{}), ended: make(chan struct{})}
	a.link = link.New(w.far, testMTU, w.v.vnet)
	a.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := a.stack.CreateNIC(nic, a.link); err != nil {
		t.Fatal(err)
	}
	for _, address := range []netip.Addr{appAddress4, appAddress6} {
		protocol := pick(address.Is4(), header.IPv4ProtocolNumber, header.IPv6ProtocolNumber)
		if err := a.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol: protocol, AddressWithPrefix: tcpip.AddrFromSlice(address.AsSlice()).WithPrefix(),
		}, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
	}
	a.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: appBuffer, Max: appBuffer},
		new(tcpip.TCPSACKEnabled(true)), new(tcpip.TCPTimeWaitTimeoutOption(time.Millisecond)),
	} {
		if err := a.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			t.Fatal(err)
		}
	}
	go a.read()
	t.Cleanup(a.vanish)
	return a
}

func (a *app) read() {
	defer close(a.ended)
	for {
		select {
		case <-a.stop:
			return
		default:
		}
		packet, ok, errno := a.link.Read()
		switch {
		case errno == unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(a.far), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, 20)
		case errno != 0:
			return
		case ok:
			if !a.v.vnet { // with offload, checksums are the kernel's to fill in
				if _, err := dissect(packet.Bytes(), false); err != nil {
					a.t.Errorf("a bad packet came out: %s", err)
				}
			}
			a.link.Deliver(packet)
		}
	}
}

// vanish ends the app's machine, without a word to anybody.
func (a *app) vanish() {
	a.once.Do(func() {
		close(a.stop)
		<-a.ended
		a.stack.RemoveNIC(nic)
		a.stack.Destroy()
	})
}

// dial connects to the far address.
func (a *app) dial(port uint16) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	number := pick(a.v.six, ipv6.ProtocolNumber, ipv4.ProtocolNumber)
	conn, err := gonet.DialContextTCP(ctx, a.stack, tcpip.FullAddress{
		NIC: nic, Addr: tcpip.AddrFromSlice(a.v.far().AsSlice()), Port: port,
	}, number)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(4 * patience))
	return conn, nil
}

func (a *app) mustDial(port uint16) *gonet.TCPConn {
	a.t.Helper()
	conn, err := a.dial(port)
	must(a.t, err)
	a.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// stream writes size bytes that depend on seed, in writes of random sizes, and
// returns their hash.
func stream(w io.Writer, seed uint64, size int) (sum [32]byte, err error) {
	random := rand.New(rand.NewPCG(seed, 1))
	source := rand.NewChaCha8([32]byte{byte(seed)})
	hash := sha256.New()
	block := make([]byte, 128<<10)
	for size > 0 {
		n := min(size, 1+random.IntN(1<<(1+random.IntN(17))))
		_, _ = source.Read(block[:n])
		hash.Write(block[:n])
		if _, err := w.Write(block[:n]); err != nil {
			return sum, err
		}
		size -= n
	}
	return [32]byte(hash.Sum(nil)), nil
}

// swallow reads to the end and returns the hash and the length.
func swallow(r io.Reader) (sum [32]byte, size int64, err error) {
	hash := sha256.New()
	size, err = io.Copy(hash, r)
	return [32]byte(hash.Sum(nil)), size, err
}

type halfCloser interface {
	io.ReadWriter
	CloseWrite() error
}

// exchange streams both ways at once, closes each half, and checks what came.
func exchange(t *testing.T, a, b halfCloser, upSize, downSize int) {
	t.Helper()
	type result struct {
		name string
		sum  [32]byte
		size int64
		err  error
	}
	results := make(chan result, 4)
	send := func(name string, c halfCloser, seed uint64, size int) {
		sum, err := stream(c, seed, size)
		if err == nil {
			err = c.CloseWrite()
		}
		results <- result{name, sum, int64(size), err}
	}
	get := func(name string, c halfCloser) {
		sum, size, err := swallow(c)
		results <- result{name, sum, size, err}
	}
	go send("up", a, 1, upSize)
	go get("up", b)
	go send("down", b, 2, downSize)
	go get("down", a)
	first := map[string]result{}
	for range 4 {
		select {
		case r := <-results:
			if r.err != nil {
				t.Errorf("%s: %s", r.name, r.err)
			}
			if other, ok := first[r.name]; !ok {
				first[r.name] = r
			} else if other.sum != r.sum || other.size != r.size {
				t.Errorf("%s: %d bytes on one side, %d on the other, or not the same", r.name, other.size, r.size)
			}
		case <-time.After(2 * patience):
			t.Fatalf("the exchange hangs:\n%s", stacks())
		}
	}
}

// readExactly reads what is wanted, and finds it is that.
func readExactly(t *testing.T, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("%s after %d bytes of %d", err, n, len(want))
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("not the bytes that were sent")
	}
}
