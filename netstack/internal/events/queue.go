// Package events tells Python what happens in the library: a queue, and an eventfd
// that is readable while an urgent event waits in it.
package events

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of event, as in netstack.h.
const (
	TCPRequest     = 1
	Abandoned      = 2
	Closed         = 3
	DeviceReturned = 4
	UDPRequest     = 5

	AssociationClosed = 6
	Datagrams         = 7

	AssociationRefused = 8
	NotHTTP            = 9
	Crowded            = 10
	Sniffed            = 11
	Joined             = 12
	DialEnded          = 13
	DialSilent         = 14
	Stood              = 15
	StandingEnded      = 16
)

// Event is struct ns_event in Go's terms.
type Event struct {
	Flow                 uint64
	BytesUp, BytesDown   uint64
	Note, Microseconds   uint64 // of Closed
	Kind                 uint32
	Error                int32
	SourcePort, DestPort uint16
	Family, Protocol     uint8
	Standing             bool // of Closed: by a standing decision
	Source, Destination  [16]byte
}

// lazyDelay is how long an event that nobody waits for may stay unread. A flow's end
// is such an event: waking Python for each one costs more than the flow's own
// bookkeeping, and Python soon wakes for the next request anyway.
const lazyDelay = 50 * time.Millisecond

// Queue is safe for use from any goroutine.
type Queue struct {
	fd int

	mu       sync.Mutex
	events   []Event
	head     int
	signaled bool
	timer    *time.Timer
	armed    bool
	wake     bool // asked for by WakeLater
	closed   bool
}

// New makes a queue with its eventfd.
func New() (*Queue, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &Queue{fd: fd}, nil
}

// FD is the eventfd. The queue owns it.
func (q *Queue) FD() int { return q.fd }

// Post adds an event and makes the eventfd readable.
func (q *Queue) Post(event Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
	q.signal()
}

// PostQuiet adds an event for a caller that is about to look at the queue: the
// eventfd stays as it is.
func (q *Queue) PostQuiet(event Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
}

// PostLazy adds an event that may wait: it is read together with the next urgent
// one, and after lazyDelay it makes the eventfd readable itself.
func (q *Queue) PostLazy(event Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
	q.arm()
}

// Wake makes the eventfd readable without an event: Drain's caller has something
// else to take.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.signal()
}

// WakeLater is Wake after lazyDelay.
func (q *Queue) WakeLater() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake = true
	q.arm()
}

// arm is called with mu held.
func (q *Queue) arm() {
	if q.signaled || q.armed || q.closed {
		return
	}
	q.armed = true
	if q.timer == nil {
		q.timer = time.AfterFunc(lazyDelay, q.expired)
	} else {
		q.timer.Reset(lazyDelay)
	}
}

func (q *Queue) expired() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = false
	if q.wake || q.head < len(q.events) {
		q.signal()
	}
}

// signal is called with mu held.
func (q *Queue) signal() {
	if q.signaled || q.closed {
		return
	}
	q.signaled = true
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It cannot fail: the counter is 0 whenever signaled is false.
	_, _ = unix.Write(q.fd, one[:])
}

// Waiting tells whether an event is there.
func (q *Queue) Waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.head < len(q.events)
}

// Drain calls take for up to limit events, oldest first, and returns how many.
// Once none is left the eventfd is no longer readable.
func (q *Queue) Drain(limit int, take func(*Event)) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(limit, len(q.events)-q.head)
	for i := range n {
		take(&q.events[q.head+i])
	}
	q.head += n
	if q.head == len(q.events) {
		q.events, q.head = q.events[:0], 0
		if cap(q.events) > 4096 {
			q.events = nil // a burst is over: give its memory back
		}
		q.wake = false
		if q.signaled {
			var sink [8]byte
			_, _ = unix.Read(q.fd, sink[:])
			q.signaled = false
		}
	}
	return n
}

// Close closes the eventfd. Later events are lost.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	_ = unix.Close(q.fd)
}
