package dial

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/lent"
	"nanotun/netstack/internal/tlswire"
)

// Kind is how a dial ended, as in netstack.h.
type Kind uint32

// The kinds.
const (
	Opened   Kind = 0 // the leg is ready
	HandedOn Kind = 1 // the other side said something else, or the good way after Silent
	Failed   Kind = 2 // no address could be connected to
	Lost     Kind = 3 // the connection ended during the handshake
	Expired  Kind = 4 // the deadline
	NoSocket Kind = 5 // none could be made
	General  Kind = 6 // this one needs the general path
)

// Connecting is the step of a dial that has no connection yet.
const Connecting = -1

// Result is the end of a dial.
type Result struct {
	Kind     Kind
	Error    unix.Errno // of Failed, Lost and NoSocket; of Lost 0 for an orderly end
	Step     int        // whose answer was waited for, or Connecting
	Address  int        // the number of the last one that was tried
	FD       int        // of Opened and HandedOn, the owner's now; else -1
	Watched  bool       // of Opened: the loop's epoll knows FD, see carry.Flow
	Wire     carry.Wire // of Opened: what is spoken on FD, or nil
	Received []byte     // everything; of Opened what is left over
	Took     time.Duration
}

// Owner is told what becomes of a dial, in its loop's goroutine or by the thread that calls
// Start. The dial is locked meanwhile: its owner may call Cancel, and nothing else.
type Owner interface {
	// Ended is called last.
	Ended(*Result)
	// Silent is called when the course's patience is over. From then on success is HandedOn.
	Silent()
}

// Dial is one attempt to open a leg.
type Dial struct {
	loop    *carry.Loop
	course  *Course
	request []byte
	owner   Owner

	// A dial belongs to its loop's goroutine, but for Start.
	mu      sync.Mutex
	over    bool
	machine Machine
	began   time.Duration // as carry.Clock tells it, like all times here
	timer   carry.Timer
	fd      int // -1: none
	watched bool
	talks   bool // it is connected
	waited  bool // it was when the dial began
	silent  bool
	address int           // the number of the one that is tried
	share   time.Duration // when its time is over
	problem Kind          // of the last address
	errno   unix.Errno    // the same, or what sending failed with
	unsent  []byte

	handshake *tlswire.Handshake // under way, and uses fd
	wire      *tlswire.Wire      // nil: none, or not yet
}

// New makes a dial that Start begins. What is sent for a step with the flow's own bytes is
// request.
func New(loop *carry.Loop, course *Course, request []byte, owner Owner) *Dial {
	d := &Dial{loop: loop, course: course, request: request, owner: owner, fd: -1}
	d.timer.Expires = d
	return d
}

// Start connects to the first address.
func (d *Dial) Start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.began = carry.Clock()
	d.connect()
}

// StartOn begins with a step on a connected socket, which it owns.
func (d *Dial) StartOn(fd, first int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	leg := lent.Reclaim(fd)
	d.fd, d.wire = leg.FD, leg.Wire
	if d.over {
		d.letGo()
		return
	}
	d.began = carry.Clock()
	d.waited = true
	d.talk(first)
	if len(leg.Leftover) > 0 && !d.over {
		d.machine.Receive(leg.Leftover[:min(len(leg.Leftover), d.machine.Room())])
		d.goOn()
	}
	d.watch()
}

// Takes tells whether a handshake may begin with this step.
func (c *Course) Takes(first int) bool { return first == 0 || first < len(c.steps) }

// Cancel has the dial dropped soon, unless it has ended: its owner hears no more. It never
// blocks.
func (d *Dial) Cancel() { d.loop.Call(d.drop) }

func (d *Dial) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.over = true
	d.loop.StopTimer(&d.timer)
	d.letGo()
}

// letGo closes the socket, if there is one.
func (d *Dial) letGo() {
	if d.fd < 0 {
		return
	}
	if d.watched {
		d.loop.Unwatch(d.fd)
	}
	if d.handshake == nil {
		Close(d.fd)
	} else {
		d.handshake.Drop() // secured closes it
	}
	d.fd, d.watched, d.handshake = -1, false, nil
}

// connect tries the addresses from the current one on, until one is under way.
func (d *Dial) connect() {
	all := d.course.addresses
	for ; d.address < len(all); d.address++ {
		a := &all[d.address]
		now := carry.Clock()
		d.share = now + (d.deadline()-now)/time.Duration(len(all)-d.address)
		fd, errno := d.course.open(a)
		if errno != 0 {
			d.problem, d.errno = NoSocket, errno // this machine may lack only this family
			continue
		}
		d.fd = fd
		errno = connect(fd, a)
		switch {
		case errno == 0 || errno == unix.EINPROGRESS && isConnected(fd):
			d.talk(0)
			d.watch()
			return
		case errno == unix.EINPROGRESS || errno == unix.EINTR:
			d.watch()
			return
		case errno == unix.EAGAIN && a.family == unix.AF_UNIX:
			// Its queue is full, and nothing tells when it no longer is.
			d.end(&Result{Kind: General, Error: errno})
			return
		}
		d.failed(errno)
	}
	d.address--
	d.end(&Result{Kind: d.problem, Error: d.errno})
}

// failed notes that the current address cannot be connected to.
func (d *Dial) failed(errno unix.Errno) {
	d.problem, d.errno = Failed, errno
	d.letGo()
}

// talk begins the handshake on the connected socket.
func (d *Dial) talk(first int) {
	d.talks, d.errno = true, 0
	d.machine.Begin(d.course, d.request, first)
	if d.course.tls != nil && d.wire == nil {
		d.secure()
		return
	}
	d.goOn()
}

// watch has the loop tell what happens from now on. It comes last: the loop may be in
// another thread.
func (d *Dial) watch() {
	if d.over {
		return
	}
	d.arm()
	events := uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET)
	if !d.talks || len(d.unsent) > 0 {
		events |= unix.EPOLLOUT
	}
	if err := d.loop.WatchFor(d.fd, d, events); err != nil {
		d.end(&Result{Kind: NoSocket, Error: errnoOf(err)})
		return
	}
	d.watched = true
}

// Ready implements carry.Watcher.
func (d *Dial) Ready(events uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	if !d.talks {
		if errno, _ := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
			d.failed(unix.Errno(errno))
			d.address++
			d.connect()
			return
		}
		if !isConnected(d.fd) {
			return
		}
		d.talk(0)
	} else if len(d.unsent) > 0 {
		d.goOn()
	}
	if d.handshake != nil {
		d.handshake.Ready()
		return
	}
	if d.wire != nil {
		_ = d.wire.Flush()
	}
	const reads = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	if events&reads != 0 || d.errno != 0 {
		d.read(events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
	}
}

const readSize = 4 << 10

var buffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// read takes what is there; ends: the end is there, too.
func (d *Dial) read(ends bool) {
	buffer := buffers.Get().(*[readSize]byte)
	defer buffers.Put(buffer)
	for !d.over && len(d.unsent) == 0 {
		room := buffer[:min(readSize, d.machine.Room())]
		if len(room) == 0 {
			d.lost(d.errno)
			return
		}
		n, errno := d.receive(room)
		switch {
		case errno == unix.EAGAIN && d.errno == 0:
			return
		case errno == unix.EAGAIN:
			d.lost(d.errno)
			return
		case errno != 0 || n == 0:
			d.lost(errno)
			return
		}
		d.machine.Receive(room[:n])
		d.goOn()
		if n < len(room) && !ends && d.errno == 0 && d.wire == nil {
			return // there is no more
		}
	}
}

// goOn sends what there is to send, and ends the dial if the handshake is over.
func (d *Dial) goOn() {
	if out := d.machine.Take(); len(out) > 0 {
		if len(d.unsent) > 0 {
			out = append(d.unsent, out...)
		}
		d.unsent = out
	}
	if len(d.unsent) > 0 {
		n, errno := d.send(d.unsent)
		d.unsent = d.unsent[n:]
		switch {
		case errno == unix.EAGAIN:
			d.awaitRoom()
			if len(d.unsent) > 0 {
				return
			}
		case errno != 0:
			// What the other side said before it closed is to be read.
			d.unsent, d.errno = nil, errno
			return
		}
	}
	switch d.machine.State() {
	case Good:
		if d.errno == 0 {
			d.good()
		}
	case Handed:
		d.handOn()
	}
}

func (d *Dial) awaitRoom() {
	if d.watched {
		d.loop.Rewatch(d.fd, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET|unix.EPOLLOUT)
	}
}

func (d *Dial) good() {
	if d.silent {
		d.handOn()
		return
	}
	if d.waited {
		// The pool allows the request much less. A unix socket has no such limit.
		_ = d.course.limitStall(d.fd)
	}
	result := Result{Kind: Opened, FD: d.fd, Watched: d.watched, Received: d.machine.Leftover()}
	if d.wire != nil {
		result.Wire = d.wire
	}
	if d.watched {
		d.loop.Unwatch(d.fd)
	}
	d.fd, d.watched = -1, false
	d.end(&result)
}

func (d *Dial) handOn() {
	result := Result{Kind: HandedOn, FD: d.fd, Received: d.machine.Received()}
	if d.watched {
		d.loop.Dismiss(d.fd)
	}
	if d.wire != nil {
		var err error
		if result.FD, err = lent.Lend(d.fd, d.wire); err != nil {
			result = Result{Kind: NoSocket, Error: errnoOf(err)}
		}
	}
	d.fd, d.watched = -1, false
	d.end(&result)
}

func (d *Dial) lost(errno unix.Errno) {
	d.end(&Result{Kind: Lost, Error: errno, Received: d.machine.Received()})
}

// end completes the result and gives it to the owner.
func (d *Dial) end(result *Result) {
	d.over = true
	d.loop.StopTimer(&d.timer)
	d.letGo()
	if result.Kind != Opened && result.Kind != HandedOn {
		result.FD = -1
	}
	result.Step = Connecting
	if d.talks {
		result.Step = d.machine.Step()
	}
	result.Address = d.address
	result.Took = carry.Clock() - d.began
	d.owner.Ended(result)
}

func (d *Dial) deadline() time.Duration { return d.began + d.course.timeout }

// hasNext tells whether another address is left to try.
func (d *Dial) hasNext() bool { return !d.talks && d.address+1 < len(d.course.addresses) }

// arm sets the timer for what comes first.
func (d *Dial) arm() {
	due := d.deadline()
	if d.hasNext() {
		due = min(due, d.share)
	}
	if patience := d.course.patience; patience > 0 && !d.silent {
		due = min(due, d.began+patience)
	}
	d.loop.SetTimer(&d.timer, due)
}

// Expired implements carry.Expirer.
func (d *Dial) Expired() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	now := carry.Clock()
	if now >= d.deadline() {
		result := Result{Kind: Expired}
		if d.talks {
			result.Received = d.machine.Received()
		}
		d.end(&result)
		return
	}
	if patience := d.course.patience; patience > 0 && !d.silent && now >= d.began+patience {
		d.silent = true
		d.owner.Silent()
	}
	if d.hasNext() && now >= d.share {
		d.letGo()
		d.address++
		d.connect()
		return
	}
	d.arm()
}
