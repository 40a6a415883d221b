package smalltcp

import (
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"nanotun/netstack/internal/carry"
)

var _ carry.App = (*Conn)(nil)

// Read implements carry.App. The writer may be a socket; it is written to with mu held, so
// that the packet stays where it is meanwhile.
func (c *Conn) Read(w io.Writer, options tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if options.Peek {
		c.peek(w)
		return tcpip.ReadResult{}, nil
	}
	total := 0
	for len(c.unread.list) > 0 {
		data := c.unread.list[0].data
		n, err := w.Write(data)
		c.unread.drop(n)
		total += n
		if err != nil {
			break
		}
	}
	if total > 0 && !c.over() {
		c.reopen()
	}
	if len(c.unread.list) == 0 && len(c.direct) > 0 {
		n, _ := w.Write(c.direct)
		c.direct = c.direct[n:]
		total += n
	}
	switch {
	case total > 0 || c.unread.size+len(c.direct) > 0:
		return tcpip.ReadResult{Count: total, Total: total}, nil
	case c.err != nil:
		return tcpip.ReadResult{}, c.err
	case c.ended || c.over():
		return tcpip.ReadResult{}, &tcpip.ErrClosedForReceive{}
	}
	return tcpip.ReadResult{}, &tcpip.ErrWouldBlock{}
}

func (c *Conn) peek(w io.Writer) {
	for i := range c.unread.list {
		if _, err := w.Write(c.unread.list[i].data); err != nil {
			return
		}
	}
	if len(c.direct) > 0 {
		_, _ = w.Write(c.direct)
	}
}

// Write implements carry.App. It may take fewer bytes than there are.
func (c *Conn) Write(p tcpip.Payloader, _ tcpip.WriteOptions) (int64, tcpip.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.takesNot(); err != nil {
		return 0, err
	}
	size := min(p.Len(), carry.SendBuffer-c.unsent.size, chunkSize)
	if size <= 0 {
		c.blocked = true
		return 0, &tcpip.ErrWouldBlock{}
	}
	var got int
	if size <= smallChunk {
		room := c.unsent.room(size)
		got = fill(p, room[:min(size, len(room))])
		c.unsent.extend(got)
	} else {
		// The bytes come from a socket: packets of the app are handled meanwhile.
		c.mu.Unlock()
		k := newChunk(size)
		got = fill(p, k.data[:size])
		k.data = k.data[:got]
		c.mu.Lock()
		if err := c.takesNot(); err != nil || got == 0 {
			k.free()
			return 0, err
		}
		c.unsent.add(k)
	}
	c.push()
	return int64(got), nil
}

// takesNot is why nothing can be written any more, or nil.
func (c *Conn) takesNot() tcpip.Error {
	switch {
	case c.err != nil:
		return c.err
	case c.ending || c.over():
		return &tcpip.ErrClosedForSend{}
	}
	return nil
}

func fill(p tcpip.Payloader, room []byte) (got int) {
	for got < len(room) {
		n, err := p.Read(room[got:])
		got += n
		if err != nil || n == 0 {
			break
		}
	}
	return got
}

// Readiness implements carry.App, for WritableEvents. A writer that finds no room is told
// when half of it is free.
func (c *Conn) Readiness(mask waiter.EventMask) waiter.EventMask {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over() && c.unsent.size >= carry.SendBuffer {
		c.blocked = true
		return 0
	}
	return mask
}

// Shutdown implements carry.App: the upstream has ended.
func (c *Conn) Shutdown(tcpip.ShutdownFlags) tcpip.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut()
	return nil
}

// LastError implements carry.App.
func (c *Conn) LastError() tcpip.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Unacknowledged implements carry.App.
func (c *Conn) Unacknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over() {
		return 0
	}
	return max(c.unsent.size, int(c.furthest-c.oldest))
}

// Unread is how many bytes of the app wait here.
func (c *Conn) Unread() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unread.size
}

// Abort implements carry.App. An app whose handshake is not over hears nothing before it
// completes that.
func (c *Conn) Abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over():
	case c.EndpointState() == tcp.StateSynRecv:
		c.givenUp = true
		c.fail(&tcpip.ErrAborted{})
	default:
		c.reset(&tcpip.ErrAborted{})
	}
	c.forget()
}

// Close implements carry.App: what was written still goes to the app.
func (c *Conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.shut()
	c.forget()
}

// forget lets go of what nobody will read.
func (c *Conn) forget() {
	c.unread.clear()
	c.direct = nil
}
