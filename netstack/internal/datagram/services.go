package datagram

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/link"
)

const (
	// recordHeader is the size of struct ns_datagram in bytes.
	recordHeader = 44

	// servicesLimit is how many bytes may wait for Python, headers included: as many
	// as it handles in a tenth of a second. Later datagrams are dropped.
	servicesLimit = 256 << 10

	// keepRoom is how much of the queue's memory outlives a burst.
	keepRoom = 64 << 10
)

// Services is the queue of datagrams that Python handles itself, in the form that
// ns_receive gives them. Safe for use from any goroutine.
type Services struct {
	// Dropped counts datagrams that found the queue full.
	Dropped atomic.Uint64

	mu   sync.Mutex
	buf  []byte
	head int
	told bool // Python knows that something waits
}

// push appends a datagram.
func (s *Services) push(source, destination *link.End, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf)-s.head+recordHeader+len(payload) > servicesLimit {
		s.Dropped.Add(1)
		return
	}
	if s.head >= servicesLimit {
		// It must not grow without bound behind a reader that never gets to its end.
		s.buf = append(s.buf[:0], s.buf[s.head:]...)
		s.head = 0
	}
	order := binary.NativeEndian
	b := order.AppendUint32(s.buf, uint32(len(payload)))
	b = order.AppendUint16(b, source.Port)
	b = order.AppendUint16(b, destination.Port)
	b = append(b, byte(source.Family), 0, 0, 0)
	b = append(b, source.Host[:]...)
	b = append(b, destination.Host[:]...)
	s.buf = append(b, payload...)
}

// Tell returns true if Python has to be told of datagrams: once for all that were
// pushed since Receive found none.
func (s *Services) Tell() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told || s.head == len(s.buf) {
		return false
	}
	s.told = true
	return true
}

// Receive moves as many whole datagrams to b as fit, and returns their bytes.
func (s *Services) Receive(b []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for s.head < len(s.buf) {
		size := recordHeader + int(binary.NativeEndian.Uint32(s.buf[s.head:]))
		if size > len(b)-n {
			return n
		}
		n += copy(b[n:], s.buf[s.head:s.head+size])
		s.head += size
	}
	if n == 0 {
		s.told = false
	}
	s.buf, s.head = s.buf[:0], 0
	if cap(s.buf) > keepRoom {
		s.buf = nil
	}
	return n
}

// Send writes the datagrams of records, as from Receive, to the device, and
// returns how many. EINVAL: a record that lies; those before it were sent.
func (t *Table) Send(records []byte) (n int, err error) {
	for len(records) > 0 {
		if len(records) < recordHeader {
			return n, unix.EINVAL
		}
		order := binary.NativeEndian
		size := int(order.Uint32(records))
		source := link.End{Port: order.Uint16(records[4:]), Family: uint16(records[8])}
		destination := link.End{Port: order.Uint16(records[6:]), Family: source.Family}
		copy(source.Host[:], records[12:])
		copy(destination.Host[:], records[28:])
		records = records[recordHeader:]
		if size > len(records) || size > payloadLimit || source.Family != 4 && source.Family != 6 {
			return n, unix.EINVAL
		}
		t.toApp(t.serviceWriter, &source, &destination, records[:size])
		records = records[size:]
		n++
	}
	return n, nil
}
