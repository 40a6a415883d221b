package smalltcp

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"nanotun/netstack/internal/carry"
)

const (
	// firstWait is how long an acknowledgement is waited for at first; answerWait the same
	// for a SYN-ACK (RFC 6298).
	firstWait  = 200 * time.Millisecond
	answerWait = time.Second

	// longestWait bounds the waits, each of which is twice the one before.
	longestWait = 60 * time.Second

	// tries is how often the same is sent in vain.
	tries = 15

	// Questions whether an idle app is still there: the first after askAfter parts of the
	// time, and the app is gone after that many in vain.
	askAfter  = 4
	questions = 9
)

// timing is what a connection's timer needs. It is never set again while it runs, which
// would cost more than the segment: when it expires, it looks whether anything came.
type timing struct {
	timer    carry.Timer
	set      bool
	progress bool // something was acknowledged since it was set
	heard    bool // the app has sent something since then
	vain     int  // how often it expired without progress
	silent   int  // how often it expired without a word

	alive bool        // the app has sent something since KeepAlive
	quiet int         // how often KeepAlive has found nothing
	moved atomic.Bool // something was acknowledged since Moved
}

// waits tells whether anything is still to be sent or to be acknowledged.
func (c *Conn) waits() bool { return c.oldest != c.furthest || c.unsent.size > 0 }

// arm sets the timer, if it is needed and does not run.
func (c *Conn) arm() {
	t := &c.timing
	if t.set || !c.waits() {
		return
	}
	wait := firstWait
	if c.EndpointState() == tcp.StateSynRecv {
		wait = answerWait
	}
	t.set, t.progress, t.heard = true, false, false
	c.loop.SetTimer(&t.timer, carry.Clock()+min(wait<<t.vain, longestWait))
}

func (c *Conn) stopTimer() {
	if c.timing.set {
		c.timing.set = false
		c.loop.StopTimer(&c.timing.timer)
	}
}

// Expired implements carry.Expirer.
func (c *Conn) Expired() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.timing
	if !t.set {
		return // it was stopped in this very turn
	}
	t.set = false
	switch {
	case !c.waits():
		t.vain, t.silent = 0, 0
		return
	case t.progress:
		t.vain, t.silent = 0, 0
	default:
		c.again()
	}
	if !c.over() {
		c.arm()
	}
}

// again sends once more what was not acknowledged, or asks for a window.
func (c *Conn) again() {
	t := &c.timing
	t.vain++
	t.silent++
	if t.heard {
		t.silent = 0
	}
	// An app that is there but reads nothing is waited for.
	if t.silent > tries || t.vain > tries && c.window > 0 {
		c.reset(&tcpip.ErrTimeout{})
		return
	}
	switch {
	case c.EndpointState() == tcp.StateSynRecv:
		c.host.Retransmits.Add(1)
		c.synACK()
	case c.window == 0 || c.oldest == c.next:
		c.ask()
	default:
		// From there on, as acknowledgements come.
		c.recovering, c.duplicates = false, 0
		c.next = c.oldest + c.resend()
	}
}

// ask has the app's kernel say what it has and takes.
func (c *Conn) ask() { c.send(header.TCPFlagAck, c.oldest-1, nil) }

// KeepAlive is called a few times in the time after which an idle app is asked whether it is
// still there.
func (c *Conn) KeepAlive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.timing
	if t.alive {
		t.alive, t.quiet = false, 0
		return
	}
	if t.quiet++; t.quiet < askAfter || c.over() || c.waits() {
		return
	}
	if t.quiet >= askAfter+questions {
		c.reset(&tcpip.ErrTimeout{})
		return
	}
	c.ask()
}

// Moved tells whether the app has acknowledged anything since the last call.
func (c *Conn) Moved() bool {
	return c.timing.moved.Swap(false)
}
