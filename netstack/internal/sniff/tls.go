package sniff

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"time"
)

const (
	recordHeader    = 5
	recordHandshake = 22
	clientHello     = 1 // RFC 8446, 4
)

// extensionECH is encrypted_client_hello, RFC 9849.
const extensionECH = 0xfe0d

var (
	errRead  = errors.New("the ClientHello was read")
	errShort = errors.New("there are no more bytes yet")
)

// TLS is Stream for what begins as a TLS record.
func TLS(b []byte) (found Finding, more bool) {
	if len(b) > recordHeader && b[recordHeader] != clientHello {
		return Finding{}, false
	}
	// Half a record says nothing, and parsing it with each segment would cost more
	// the smaller the segments are.
	if len(b) < recordHeader || len(b)-recordHeader < int(binary.BigEndian.Uint16(b[3:])) {
		return Finding{}, len(b) < Limit
	}
	read := false
	server := tls.Server(reading{bytes.NewReader(b)}, listening(&found, &read))
	err := server.Handshake()
	return found, !read && errors.Is(err, errShort) && len(b) < Limit
}

// listening is a configuration of a server that reads a ClientHello and goes no further.
func listening(found *Finding, read *bool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS10,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			*read = true
			*found = named(hello.ServerName, slices.Contains(hello.Extensions, extensionECH))
			return nil, errRead
		},
	}
}

// handshake finds the name in a whole ClientHello without a record around it, as QUIC
// carries it.
func handshake(hello []byte) (found Finding) {
	read := false
	config := listening(&found, &read)
	config.MinVersion = tls.VersionTLS13 // QUIC has no other, RFC 9001, 4.2
	server := tls.QUICServer(&tls.QUICConfig{TLSConfig: config})
	defer server.Close()
	if err := server.Start(context.Background()); err == nil {
		_ = server.HandleData(tls.QUICEncryptionLevelInitial, hello)
	}
	return found
}

// reading is a connection on which some bytes have come, and which takes any answer.
type reading struct{ *bytes.Reader }

func (r reading) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		err = errShort
	}
	return n, err
}

func (reading) Write(p []byte) (int, error)      { return len(p), nil }
func (reading) Close() error                     { return nil }
func (reading) LocalAddr() net.Addr              { return nil }
func (reading) RemoteAddr() net.Addr             { return nil }
func (reading) SetDeadline(time.Time) error      { return nil }
func (reading) SetReadDeadline(time.Time) error  { return nil }
func (reading) SetWriteDeadline(time.Time) error { return nil }
