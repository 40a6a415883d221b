package sniff

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
)

// maxDatagrams is how many datagrams of a client are looked at. A ClientHello with keys
// that no quantum computer breaks takes two.
const maxDatagrams = 4

// QUIC finds the name in the first datagrams of a client. Each version of QUIC encrypts
// its Initial packets with keys that follow from what is in the packet's header: RFC 9001,
// 5.2, and for version 2 RFC 9369, 3.3.
type QUIC struct {
	opener    *opener
	hello     []byte // the ClientHello, as far as the pieces that came reach
	has       []bool // which bytes of it came
	prefix    int    // how many bytes came without a gap
	datagrams int
}

// Add looks at one more datagram. done tells that no other one can change what is found.
func (q *QUIC) Add(datagram []byte) (found Finding, done bool) {
	q.datagrams++
	for rest := datagram; len(rest) > 0; {
		initial, after, ok := parseInitial(rest)
		if !ok {
			// What follows an Initial packet in its datagram is not for us.
			if len(rest) == len(datagram) {
				return Finding{}, true
			}
			break
		}
		// All Initial packets of a client go by the first one's keys until the server
		// has answered.
		if q.opener == nil {
			q.opener = newOpener(initial.version, initial.destination)
		}
		payload, ok := q.opener.open(&initial)
		if !ok || !q.take(payload) {
			return Finding{}, true
		}
		rest = after
	}
	const header = 4 // of a handshake message, RFC 8446, 4
	if q.prefix >= header {
		end := header + int(binary.BigEndian.Uint32(q.hello)&0xffffff)
		switch {
		case q.hello[0] != clientHello || end > Limit:
			return Finding{}, true
		case q.prefix >= end:
			return handshake(q.hello[:end]), true
		}
	}
	return Finding{}, q.datagrams >= maxDatagrams
}

// Frames that an Initial packet may have, RFC 9000, 12.4.
const (
	framePadding = 0
	framePing    = 1
	frameACK     = 2
	frameACKECN  = 3
	frameCrypto  = 6
)

// take keeps what the frames of a packet carry of the ClientHello. False: they are none
// that a client begins with.
func (q *QUIC) take(payload []byte) bool {
	c := cursor{left: payload}
	for len(c.left) > 0 && !c.failed {
		switch kind := c.varint(); kind {
		case framePadding, framePing:
		case frameACK, frameACKECN:
			c.varint() // the largest that is acknowledged
			c.varint() // the delay
			ranges := c.varint()
			c.varint() // the first range
			for ; ranges > 0 && !c.failed; ranges-- {
				c.varint()
				c.varint()
			}
			if kind == frameACKECN {
				c.varint()
				c.varint()
				c.varint()
			}
		case frameCrypto:
			offset := c.varint()
			data := c.bytes(c.varint())
			if c.failed || offset > Limit || offset+uint64(len(data)) > Limit {
				return false
			}
			q.put(int(offset), data)
		default:
			return false
		}
	}
	return !c.failed
}

func (q *QUIC) put(offset int, data []byte) {
	if missing := offset + len(data) - len(q.hello); missing > 0 {
		q.hello = append(q.hello, make([]byte, missing)...)
		q.has = append(q.has, make([]bool, missing)...)
	}
	copy(q.hello[offset:], data)
	for i := range data {
		q.has[offset+i] = true
	}
	for q.prefix < len(q.has) && q.has[q.prefix] {
		q.prefix++
	}
}

// initial is an Initial packet, RFC 9000, 17.2.2.
type initial struct {
	version     uint32
	destination []byte // the connection ID
	packet      []byte // from the first byte to the end of the payload
	number      int    // where the packet number begins
}

// Versions of QUIC.
const (
	version1 = 1
	version2 = 0x6b3343cf
)

// parseInitial takes an Initial packet apart, and returns what comes after it.
func parseInitial(b []byte) (p initial, after []byte, ok bool) {
	const maxID = 20
	c := cursor{left: b}
	first := c.byte()
	p.version = uint32(c.byte())<<24 | uint32(c.byte())<<16 | uint32(c.byte())<<8 | uint32(c.byte())
	p.destination = c.bytes(uint64(c.byte()))
	source := c.bytes(uint64(c.byte()))
	kind := first >> 4
	if kind != 0b1100 && p.version == version1 || kind != 0b1101 && p.version == version2 {
		return p, nil, false
	}
	if p.version != version1 && p.version != version2 || len(p.destination) > maxID || len(source) > maxID {
		return p, nil, false
	}
	c.bytes(c.varint()) // the token
	length := c.varint()
	p.number = len(b) - len(c.left)
	c.bytes(length)
	if c.failed {
		return p, nil, false
	}
	p.packet = b[:len(b)-len(c.left)]
	return p, c.left, true
}

// opener decrypts a client's Initial packets.
type opener struct {
	payload cipher.AEAD
	iv      []byte
	header  cipher.Block
}

// newOpener makes the keys for the connection ID that a client has made up for the server.
func newOpener(version uint32, destination []byte) *opener {
	salt, prefix := salt1, "quic "
	if version == version2 {
		salt, prefix = salt2, "quicv2 "
	}
	// The lengths are right and the hash is there, so none of these can fail.
	secret, _ := hkdf.Extract(sha256.New, destination, salt)
	client := expand(secret, "client in", sha256.Size)
	block, _ := aes.NewCipher(expand(client, prefix+"key", 16))
	payload, _ := cipher.NewGCM(block)
	header, _ := aes.NewCipher(expand(client, prefix+"hp", 16))
	return &opener{payload: payload, iv: expand(client, prefix+"iv", 12), header: header}
}

var (
	salt1 = []byte("\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a")
	salt2 = []byte("\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9")
)

// expand is HKDF-Expand-Label of RFC 8446, 7.1, without a context.
func expand(secret []byte, label string, length int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(length >> 8), byte(length), byte(len(label))}, label...)
	key, _ := hkdf.Expand(sha256.New, secret, string(append(info, 0)), length)
	return key
}

// open takes off the protection of the header, RFC 9001, 5.4, and decrypts the payload.
func (o *opener) open(p *initial) (payload []byte, ok bool) {
	const longest = 4 // of a packet number
	sample := p.number + longest
	if len(p.packet) < sample+aes.BlockSize {
		return nil, false
	}
	var mask [aes.BlockSize]byte
	o.header.Encrypt(mask[:], p.packet[sample:sample+aes.BlockSize])
	header := append([]byte(nil), p.packet[:sample]...)
	header[0] ^= mask[0] & 0x0f
	end := p.number + 1 + int(header[0]&3)
	nonce := append([]byte(nil), o.iv...)
	for i := p.number; i < end; i++ {
		header[i] ^= mask[1+i-p.number]
		// The first numbers are small: none has more digits than are sent.
		nonce[len(nonce)-(end-i)] ^= header[i]
	}
	payload, err := o.payload.Open(nil, nonce, p.packet[end:], header[:end])
	return payload, err == nil
}

// cursor reads from what is left; once it has failed, it reads zeros.
type cursor struct {
	left   []byte
	failed bool
}

func (c *cursor) bytes(n uint64) []byte {
	if c.failed || n > uint64(len(c.left)) {
		c.failed, c.left = true, nil
		return nil
	}
	taken := c.left[:n]
	c.left = c.left[n:]
	return taken
}

func (c *cursor) byte() byte {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// varint reads a variable-length integer, RFC 9000, 16.
func (c *cursor) varint() uint64 {
	first := c.byte()
	value := uint64(first & 0x3f)
	for range 1<<(first>>6) - 1 {
		value = value<<8 | uint64(c.byte())
	}
	return value
}
