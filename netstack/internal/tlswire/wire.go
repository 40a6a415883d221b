// Package tlswire speaks TLS on a non-blocking socket, as a client.
//
// crypto/tls is made for goroutines that block. The handshake has one: it waits for what the
// socket's loop tells it, and ends with the handshake. From then on nothing waits: a read
// that finds too little returns EAGAIN, and goes on where it was once there is more; a write
// keeps what the kernel does not take. So a flow inside TLS is carried like any other.
package tlswire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// sessions is how many sessions are kept for one configuration: one for each name and
// network is enough, and servers give out two or more.
const sessions = 64

// Options are what the connections to one proxy have in common.
type Options struct {
	// Authorities is PEM with the certificates to trust; empty for the system's.
	Authorities []byte
	// Insecure trusts any certificate.
	Insecure bool
	// Protocols are offered by ALPN (RFC 7301).
	Protocols []string
	// Host is the name or address that the certificate has to be for; a name is sent as SNI.
	Host string
}

// ErrNoCertificate says that there is none in Options.Authorities.
var ErrNoCertificate = errors.New("it holds no certificate")

// Config makes what Begin needs, once for all connections to one proxy, so that they resume
// each other's sessions.
func Config(options Options) (*tls.Config, error) {
	config := &tls.Config{
		ServerName:         options.Host,
		NextProtos:         options.Protocols,
		InsecureSkipVerify: options.Insecure,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
		// Small records are for browsers that show what they have.
		DynamicRecordSizingDisabled: true,
	}
	if len(options.Authorities) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(options.Authorities) {
			return nil, ErrNoCertificate
		}
	}
	return config, nil
}

// Handshake is one that is under way.
type Handshake struct{ socket *socket }

// Begin begins a handshake on a connected socket, which stays the caller's, or on the wire that
// is on it. early was received already. done is called once, by a goroutine that has nothing
// else to do with the socket then.
func Begin(fd int, below *Wire, early []byte, config *tls.Config, done func(*Wire, error)) *Handshake {
	h := &Handshake{newSocket(fd, below, early)}
	conn := tls.Client(h.socket, config)
	go func() {
		err := conn.Handshake()
		h.socket.waits = false
		h.socket.flush() // an alert, too
		if err != nil {
			done(nil, err)
			return
		}
		done(&Wire{conn: conn, socket: h.socket}, nil)
	}()
	return h
}

// Ready is called when the socket can be read or written, or has failed.
func (h *Handshake) Ready() { h.socket.wake() }

// Drop gives the handshake up; done is called all the same.
func (h *Handshake) Drop() { h.socket.drop() }

// Wire is a connection whose handshake is done. One goroutine at a time uses it.
type Wire struct {
	conn   *tls.Conn
	socket *socket
}

// Read reads plain bytes: 0 and no error at the end. EAGAIN: there is nothing yet. EPROTO:
// what the peer sent is no TLS, or was changed on the way. Anything else is the socket's.
//
// An end without a close_notify is one, too: many servers leave it out.
func (w *Wire) Read(p []byte) (int, unix.Errno) {
	n, err := w.conn.Read(p)
	if n > 0 || err == nil {
		return n, 0
	}
	var errno unix.Errno
	var wait later
	switch {
	case errors.As(err, &wait):
		return 0, unix.EAGAIN
	case errors.Is(err, io.EOF):
		return 0, 0
	case errors.As(err, &errno):
		return 0, errno
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, unix.ECONNRESET // in the middle of a record
	}
	return 0, unix.EPROTO
}

// Write takes all of p, or nothing with EAGAIN while much is pending. Flush sends it, at the
// latest. Anything else is the socket's errno, or EPROTO.
func (w *Wire) Write(p []byte) (int, unix.Errno) {
	if w.socket.full() {
		if errno := w.Flush(); errno != 0 {
			return 0, errno
		}
	}
	return w.Push(p)
}

// Push is Write for what was taken from elsewhere already: it takes all, pending or not.
func (w *Wire) Push(p []byte) (int, unix.Errno) {
	n, err := w.conn.Write(p)
	if err != nil {
		if w.socket.failed != 0 {
			return 0, w.socket.failed
		}
		return 0, unix.EPROTO
	}
	return n, 0
}

// Flush sends what is pending. EAGAIN: there is still something.
func (w *Wire) Flush() unix.Errno {
	sent := w.socket.flush()
	switch {
	case w.socket.failed != 0:
		return w.socket.failed
	case !sent:
		return unix.EAGAIN
	}
	return 0
}

// CloseWrite says that nothing more will be written (close_notify). It may be pending then.
func (w *Wire) CloseWrite() { _ = w.conn.CloseWrite() }

// Resumed tells whether the handshake took up an earlier session.
func (w *Wire) Resumed() bool { return w.conn.ConnectionState().DidResume }
