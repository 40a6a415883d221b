package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"testing"
)

// The socket of a connection is found with its user, in both families; a connection
// that does not exist is not, though somebody listens on its port.
func TestAsk(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Skip(err)
			}
			defer listener.Close()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			asker, err := New()
			if err != nil {
				t.Fatal(err)
			}
			defer asker.Close()
			source := netip.MustParseAddrPort(conn.LocalAddr().String())
			destination := netip.MustParseAddrPort(conn.RemoteAddr().String())
			for range 3 {
				uid, _, found := asker.Ask(source, destination, 0)
				if !found || uid != uint32(os.Getuid()) {
					t.Errorf("found %t, uid %d", found, uid)
				}
				nobody := netip.AddrPortFrom(destination.Addr(), 1)
				if uid, _, found := asker.Ask(destination, nobody, 0); found {
					t.Errorf("a socket of uid %d is said to connect from a port that only listens", uid)
				}
			}
		})
	}
}

// Answers that are cut short or about another connection are none.
func TestOddAnswers(t *testing.T) {
	var b [answerSize]byte
	for size := 16; size <= answerSize; size++ {
		if _, _, found := read(b[:size], 1, 2); found {
			t.Errorf("%d zero bytes are an answer", size)
		}
	}
}
