package engine

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/dial"
	"nanotun/netstack/internal/events"
)

// courses are those that Python may name, by their numbers.
type courses struct {
	mu    sync.Mutex
	last  uint32
	known map[uint32]*dial.Course
}

// courseLimit is how many numbers there are: a result is an int.
const courseLimit = 1<<31 - 1

// Course keeps a course under a number. EINVAL: it is not by the letter.
func (e *Engine) Course(blob []byte) (number int, err error) {
	c, err := dial.Parse(blob)
	if err != nil {
		return 0, err
	}
	all := &e.courses
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.last == courseLimit {
		return 0, unix.ENOSPC
	}
	if all.known == nil {
		all.known = make(map[uint32]*dial.Course)
	}
	all.last++
	all.known[all.last] = c
	return int(all.last), nil
}

// Uncourse forgets a course. Dials under way go on.
func (e *Engine) Uncourse(number uint32) error {
	all := &e.courses
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.known[number] == nil {
		return unix.EINVAL
	}
	delete(all.known, number)
	return nil
}

// course returns nil if there is none of that number.
func (e *Engine) course(number uint32) *dial.Course {
	all := &e.courses
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.known[number]
}

// flowDial is the dial of a waiting flow. It belongs to the flow's entry: when that leaves
// pendingTable, the dial is dropped.
type flowDial struct {
	engine  *Engine
	waiting *waiting
	dial    *dial.Dial

	standing *standing // whose dial it is, or nil

	end *dial.Result // until Dialled takes it; under pendingTable.mu

	took    time.Duration // of one that was good
	address int
}

// leave drops the dial of an entry that has left. pendingTable.mu is held.
func (d *flowDial) leave() {
	if d.end == nil {
		d.dial.Cancel()
		return
	}
	if d.end.FD >= 0 {
		dial.Close(d.end.FD)
	}
}

func (e *Engine) newDial(w *waiting, c *dial.Course, request []byte) *flowDial {
	d := &flowDial{engine: e, waiting: w}
	d.dial = dial.New(e.loops[w.flow%uint64(len(e.loops))], c, request, d)
	return d
}

// beginDial has a flow that waits in the dials dialled by a standing decision, whose flow it
// is. No lock is held.
func (e *Engine) beginDial(w *waiting, s *standing) {
	d := e.newDial(w, s.course, s.request)
	d.standing = s
	if e.pending.setDial(w, d, s.note) {
		d.dial.Start()
	}
}

// Dial has a waiting flow dialled: through fd, a connected socket on which step first
// begins, or if it is -1 through a new one. It owns fd from here on. ENOENT: no such flow
// waits. EALREADY: it is dialled already. EINVAL: there is no such course, or no such step.
// note is as for Join.
func (e *Engine) Dial(flow uint64, course uint32, fd, first int, request []byte, note uint64) error {
	err := e.dial(flow, course, fd, first, request, note)
	if err != nil && fd >= 0 {
		dial.Close(fd)
	}
	return err
}

func (e *Engine) dial(flow uint64, course uint32, fd, first int, request []byte, note uint64) error {
	c := e.course(course)
	if c == nil || fd >= 0 && !c.Takes(first) {
		return unix.EINVAL
	}
	w, err := e.pending.dialable(flow)
	if err != nil {
		return err
	}
	d := e.newDial(w, c, request)
	switch {
	case !e.pending.setDial(w, d, note):
		return unix.ENOENT
	case fd >= 0:
		d.dial.StartOn(fd, first)
	default:
		d.dial.Start()
	}
	return nil
}

// Undial drops a flow's dial; the flow waits on. ENOENT: there is none.
func (e *Engine) Undial(flow uint64) error { return e.pending.undial(flow) }

// Dialled takes the end of a flow's dial, once. ENOENT: there is none.
func (e *Engine) Dialled(flow uint64) (*dial.Result, error) { return e.pending.dialled(flow) }

// Ended implements dial.Owner.
func (d *flowDial) Ended(end *dial.Result) {
	e := d.engine
	if end.Kind != dial.Opened {
		if !e.pending.endDial(d, end, func(event events.Event) { e.events.Post(event) }) && end.FD >= 0 {
			dial.Close(end.FD)
		}
		return
	}
	d.took, d.address = end.Took, end.Address
	setKeepAlive(end.FD, e.config.KeepAlive)
	var leftover []byte
	if len(end.Received) > 0 {
		leftover = end.Received
	}
	f := e.newFlow(d.waiting.flow, end.FD, leftover)
	f.Watched, f.Wire, f.dialled = end.Watched, end.Wire, d
	if e.joinFlow(f, nil) == unix.EMFILE {
		d.unwanted(f.standing)
	}
}

// unwanted tells of a good dial for whose flow there was no place. It may be one that Python
// does not know: the user is to hear of the limit even so.
func (d *flowDial) unwanted(s *standing) {
	e := d.engine
	event := d.waiting.tuple.event(events.Abandoned, d.waiting.flow)
	e.mu.Lock()
	if !e.quiesced {
		event.Error = int32(unix.EMFILE)
	}
	e.mu.Unlock()
	if s != nil {
		s.ended()
	}
	if s == nil || event.Error != 0 {
		e.events.Post(event)
	}
}

// Silent implements dial.Owner.
func (d *flowDial) Silent() {
	e := d.engine
	e.pending.tellSilent(d, func(event events.Event) { e.events.Post(event) })
}

// takeFor takes the entry of a flow that is to be joined. mu is held.
func (e *Engine) takeFor(f *joinedFlow) *waiting {
	if f.dialled == nil {
		return e.pending.take(f.ID)
	}
	w, s := e.pending.takeDialled(f.dialled)
	f.standing = s
	return w
}

// tellJoined says that a dial has joined its flow, before anything else can be said of the
// flow. mu is held.
func (e *Engine) tellJoined(f *joinedFlow, t *tuple) {
	d := f.dialled
	switch {
	case d == nil:
	case f.standing != nil:
		f.standing.joined(d.took, d.address)
	default:
		event := t.event(events.Joined, f.ID)
		event.BytesUp, event.Error = uint64(d.took.Microseconds()), int32(d.address)
		e.events.PostLazy(event)
	}
}

// dialable returns an entry in the dials that has no dial.
func (p *pendingTable) dialable(flow uint64) (*waiting, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byFlow[flow]
	switch {
	case w == nil || w.stage != p.dials:
		return nil, unix.ENOENT
	case w.dial != nil:
		return nil, unix.EALREADY
	}
	return w, nil
}

// setDial gives an entry its dial, and its note unless that is 0, if the entry has not left.
func (p *pendingTable) setDial(w *waiting, d *flowDial, note uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byFlow[w.flow] != w {
		return false
	}
	w.dial = d
	if note != 0 {
		w.note = note
	}
	if d.standing != nil {
		w.standing = d.standing
	}
	return true
}

func (p *pendingTable) undial(flow uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byFlow[flow]
	if w == nil || w.dial == nil {
		return unix.ENOENT
	}
	w.dial.leave()
	w.dial = nil
	return nil
}

// dialled takes the end of an entry's dial.
func (p *pendingTable) dialled(flow uint64) (*dial.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.byFlow[flow]
	if w == nil || w.dial == nil || w.dial.end == nil {
		return nil, unix.ENOENT
	}
	end := w.dial.end
	w.dial = nil
	return end, nil
}

// endDial keeps the end of a dial for dialled, and tells of it. False: nobody wants it any
// more.
func (p *pendingTable) endDial(d *flowDial, end *dial.Result, post func(events.Event)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.waiting.dial != d {
		return false
	}
	d.end = end
	post(d.event(events.DialEnded))
	return true
}

// tellSilent tells that a dial's patience is over.
func (p *pendingTable) tellSilent(d *flowDial, post func(events.Event)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.waiting.dial == d {
		post(d.event(events.DialSilent))
	}
}

// takeDialled is take for a dial that was good, nil if nobody wants it any more; and the
// standing decision that the flow belongs to, unless Python knows the flow.
func (p *pendingTable) takeDialled(d *flowDial) (*waiting, *standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := d.waiting
	if w.dial != d {
		return nil, nil
	}
	var s *standing
	if !w.told {
		s, w.standing = w.standing, nil
	}
	w.dial = nil
	p.unlinkLocked(w)
	return w, s
}

// event is one about a dial. Python knows its flow from now on.
func (d *flowDial) event(kind uint32) events.Event {
	event := d.waiting.tuple.event(kind, d.waiting.flow)
	if d.standing != nil {
		event.BytesUp = d.standing.number
	}
	d.waiting.told = true
	return event
}
