package datagram

import (
	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/link"
)

// Attach sends a flow's datagrams through an association; to, if not nil, is their real
// destination. ENOENT: no such flow waits. EBADF and EEXIST: this association does
// not take the flow, which still waits. EINVAL: to, with an association that has a name.
// note is listed with the flow, and told with its end.
func (t *Table) Attach(id, association uint64, to *link.End, note uint64) error {
	t.mu.Lock()
	f, a := t.waiting[id], t.associations[association]
	switch {
	case f == nil:
		t.mu.Unlock()
		return unix.ENOENT
	case a == nil:
		t.mu.Unlock()
		return unix.EBADF
	case a.name != "" && to != nil:
		t.mu.Unlock()
		return unix.EINVAL
	case !a.reaches(f):
		t.mu.Unlock()
		return unix.EBADF
	}
	f.to = f.key.destination
	if to != nil {
		f.to = *to
	}
	if a.shared {
		for _, p := range f.queue {
			if !t.isFree(a, f, p) {
				t.mu.Unlock()
				return unix.EEXIST
			}
		}
	} else {
		a.source, a.host = f.key.source, hostOf(f)
	}
	queue := t.settle(f)
	f.state, f.association, f.note = attached, a, note
	for _, p := range queue {
		f.up += uint64(len(p))
	}
	if a.destinations == 0 || a.only != f.to {
		a.only = f.to
		a.destinations++
	}
	if f.to != f.key.destination {
		a.alias(f.to, f.key.destination)
	}
	f.place = t.lru.PushBack(f)
	if a.shared {
		for _, p := range queue {
			t.expect(f, p)
		}
	}
	a.sent = t.Look()
	t.touchAssociation(a, a.sent)
	t.mu.Unlock()
	t.sendNow(a, f, queue)
	return nil
}

// reaches tells whether an association that is not shared is the one of a flow's
// source, and if it has a name, the one of its destination's address. Called with mu
// held.
func (a *Association) reaches(f *flow) bool {
	return a.shared || a.source.Family == 0 || a.source == f.key.source && (a.name == "" || a.host == hostOf(f))
}

// hostOf is a flow's destination without the port.
func hostOf(f *flow) link.End {
	host := f.key.destination
	host.Port = 0
	return host
}

// sendNow sends what a flow queued. It may run beside the thread that has the
// device, so it has a sender of its own.
func (t *Table) sendNow(a *Association, f *flow, queue [][]byte) {
	s := senders.Get().(*sender)
	s.table = t
	for _, p := range queue {
		s.add(a, &f.to, p)
	}
	s.flush()
	senders.Put(s)
}

// ServeFlow gives a flow's datagrams to Python. ENOENT: no such flow waits.
func (t *Table) ServeFlow(id uint64) error {
	t.mu.Lock()
	f := t.waiting[id]
	if f == nil {
		t.mu.Unlock()
		return unix.ENOENT
	}
	queue := t.settle(f)
	f.state = served
	f.place = t.lru.PushBack(f)
	t.mu.Unlock()
	for _, p := range queue {
		t.Services.push(&f.key.source, &f.key.destination, p)
	}
	return nil
}

// Refuse tells the app that it cannot have a flow, now and for verdictLife.
// ENOENT: no such flow waits.
func (t *Table) Refuse(id uint64, how Refusal) error {
	f := t.decideBriefly(id, refused, how)
	if f == nil {
		return unix.ENOENT
	}
	t.config.Reject(&f.key.source, &f.key.destination, how)
	return nil
}

// Drop drops a flow's datagrams, now and for verdictLife. ENOENT: no such flow
// waits.
func (t *Table) Drop(id uint64) error {
	if t.decideBriefly(id, dropped, 0) == nil {
		return unix.ENOENT
	}
	return nil
}

func (t *Table) decideBriefly(id uint64, s state, how Refusal) *flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.waiting[id]
	if f == nil {
		return nil
	}
	t.settle(f)
	f.state, f.how, f.active = s, how, t.Look()
	f.place = t.brief.PushBack(f)
	return f
}
