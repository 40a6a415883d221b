package datagram

import (
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/sniff"
)

// sniffWait is how long more datagrams are waited for. A ClientHello that takes several
// comes in one flight.
const sniffWait = 100 * time.Millisecond

// sniffed is what a flow has more while its name is wanted. Table.mu guards it.
type sniffed struct {
	quic  sniff.QUIC
	found sniff.Finding
	done  bool
	timer *time.Timer
}

// look looks at one more datagram, and tells whether that was the last.
func (s *sniffed) look(p []byte) bool {
	if !s.done {
		s.found, s.done = s.quic.Add(p)
	}
	return s.done
}

// Sniff finds out what name a waiting flow asks for, as Engine.Sniff does. Only QUIC says
// one.
func (t *Table) Sniff(id uint64) (ready bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.waiting[id]
	switch {
	case f == nil:
		return false, unix.ENOENT
	case f.sniffed != nil:
		return false, unix.EALREADY
	}
	s := &sniffed{}
	f.sniffed = s
	for _, p := range f.queue {
		if s.look(p) {
			return true, nil
		}
	}
	s.timer = time.AfterFunc(sniffWait, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.waiting[id] == f && !s.done {
			s.done = true
			t.config.Events.Post(f.event(events.Sniffed))
		}
	})
	return false, nil
}

// Name is what a flow that waits was found to ask for. ENOENT: no such flow.
func (t *Table) Name(id uint64) (sniff.Finding, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.waiting[id]
	if f == nil || f.sniffed == nil {
		return sniff.Finding{}, unix.ENOENT
	}
	return f.sniffed.found, nil
}

// sniff looks at a datagram that joins a flow's queue. mu is held.
func (t *Table) sniff(f *flow, p []byte) {
	if s := f.sniffed; s != nil && !s.done && s.look(p) {
		s.timer.Stop()
		t.config.Post(f.event(events.Sniffed))
	}
}
