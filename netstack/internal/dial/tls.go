package dial

import (
	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/carry"
	"nanotun/netstack/internal/sock"
	"nanotun/netstack/internal/tlswire"
)

// With TLS the first thing that is received is tlswire.Message, so that the steps, and
// Python's handshake, wait for TLS as for anything else.

// secure begins TLS on the connected socket.
func (d *Dial) secure() {
	fd := d.fd
	d.handshake = tlswire.Begin(fd, nil, nil, d.course.tls, func(wire *tlswire.Wire, err error) {
		d.mu.Lock()
		dropped := d.handshake == nil
		d.mu.Unlock()
		if dropped {
			Close(fd) // the loop may have ended, too
			return
		}
		d.loop.Call(func() { d.secured(fd, wire, err) })
	})
}

// secured goes on when TLS is ready, or ends the dial.
func (d *Dial) secured(fd int, wire *tlswire.Wire, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handshake == nil {
		Close(fd)
		return
	}
	d.handshake, d.wire = nil, wire
	d.machine.Receive(tlswire.Message(err, d.course.tls.ServerName))
	if err != nil {
		_, _, errno := tlswire.Describe(err, "")
		d.lost(errno)
		return
	}
	d.goOn()
	// Something may have come with the end of the handshake.
	d.read(false)
}

func (d *Dial) receive(p []byte) (int, unix.Errno) {
	if d.wire != nil {
		return d.wire.Read(p)
	}
	return carry.ReadSocket(d.fd, p)
}

func (d *Dial) send(p []byte) (int, unix.Errno) {
	if d.wire == nil {
		return sock.Send(d.fd, p)
	}
	n, errno := d.wire.Write(p)
	if errno == 0 {
		errno = d.wire.Flush()
	}
	return n, errno
}
