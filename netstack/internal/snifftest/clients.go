// Package snifftest is for tests only: what clients of TLS and QUIC send first. It makes
// keys and packets by itself, so that sniff is compared with something else than sniff.
package snifftest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// recorder is a connection that keeps what is written and answers nothing.
type recorder struct {
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Read([]byte) (int, error)       { return 0, io.EOF }
func (r *recorder) Write(p []byte) (int, error)    { return r.written.Write(p) }
func (*recorder) Close() error                     { return nil }
func (*recorder) SetDeadline(time.Time) error      { return nil }
func (*recorder) SetWriteDeadline(time.Time) error { return nil }

// Hello is what a client of TLS sends first: one record.
func Hello(config *tls.Config) []byte {
	var r recorder
	_ = tls.Client(&r, config).Handshake()
	return r.written.Bytes()
}

// QUICHello is the ClientHello of a QUIC client, without a record around it.
func QUICHello(t testing.TB, name string) (hello []byte) {
	t.Helper()
	client := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13}})
	defer client.Close()
	client.SetTransportParameters([]byte{})
	if err := client.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for event := client.NextEvent(); event.Kind != tls.QUICNoEvent; event = client.NextEvent() {
		if event.Kind == tls.QUICWriteData {
			hello = append(hello, event.Data...)
		}
	}
	return hello
}

// Crypto is a CRYPTO frame with a part of a ClientHello.
func Crypto(hello []byte, from, to int) []byte {
	frame := []byte{6}
	frame = binary.BigEndian.AppendUint16(frame, 0x4000|uint16(from))
	frame = binary.BigEndian.AppendUint16(frame, 0x4000|uint16(to-from))
	return append(frame, hello[from:to]...)
}

// The versions of QUIC.
const (
	Version1 = 1
	Version2 = 0x6b3343cf
)

// Initial is an Initial packet of a client.
type Initial struct {
	Version     uint32
	Key         []byte // the connection ID that the keys are made of
	Destination []byte // the one in the header; nil: the same
	Number      uint32
	Payload     []byte
}

// Connection is the connection ID of RFC 9001's and RFC 9369's examples.
var Connection = []byte("\x83\x94\xc8\xf0\x3e\x51\x57\x08")

// Seal protects the packet, RFC 9001, 5, with a packet number of four bytes.
func (p Initial) Seal() []byte {
	salt, prefix, first := "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic ", byte(0xc3)
	if p.Version == Version2 {
		salt, prefix, first = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 ", 0xd3
	}
	destination := p.Destination
	if destination == nil {
		destination = p.Key
	}
	header := append([]byte{first}, binary.BigEndian.AppendUint32(nil, p.Version)...)
	header = append(append(header, byte(len(destination))), destination...)
	header = append(header, 0, 0) // no connection ID of the client, no token
	header = binary.BigEndian.AppendUint16(header, 0x4000|uint16(4+len(p.Payload)+16))
	number := len(header)
	header = binary.BigEndian.AppendUint32(header, p.Number)

	initial, _ := hkdf.Extract(sha256.New, p.Key, []byte(salt))
	secret := label(initial, "client in", 32)
	nonce := label(secret, prefix+"iv", 12)
	for i := range 4 {
		nonce[8+i] ^= header[number+i]
	}
	block, _ := aes.NewCipher(label(secret, prefix+"key", 16))
	aead, _ := cipher.NewGCM(block)
	packet := aead.Seal(header, nonce, p.Payload, header)

	var mask [16]byte
	block, _ = aes.NewCipher(label(secret, prefix+"hp", 16))
	block.Encrypt(mask[:], packet[number+4:number+20])
	packet[0] ^= mask[0] & 0x0f
	for i := range 4 {
		packet[number+i] ^= mask[1+i]
	}
	return packet
}

func label(secret []byte, text string, length byte) []byte {
	info := "\x00" + string([]byte{length, byte(6 + len(text))}) + "tls13 " + text + "\x00"
	key, _ := hkdf.Expand(sha256.New, secret, info, int(length))
	return key
}
