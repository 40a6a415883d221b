// Package sniff finds the name that an app asks for in the first bytes it sends: the
// server name of a TLS ClientHello, over TCP or in a QUIC Initial, or the Host of an
// HTTP request.
//
// It only reads. What it is given may be anything, and may be cut off anywhere.
package sniff

// Limit is how many bytes of a stream are looked at: a ClientHello in a TLS record of
// the greatest length, RFC 8446, 5.1.
const Limit = 5 + 1<<14

// MaxName is the length of the longest name, as text, in bytes.
const MaxName = 255

// Finding is what the first bytes of an app say.
type Finding struct {
	// Name is as the app wrote it, "" if there is none.
	Name string
	// Outer tells that Name may stand for another, encrypted one: the ClientHello has the
	// extension of Encrypted Client Hello. Browsers send that with every ClientHello,
	// mostly filled with noise.
	Outer bool
}

// Stream finds the name in the first bytes of a stream, whatever port they go to. more
// tells that it takes more of them to say.
func Stream(b []byte) (found Finding, more bool) {
	switch {
	case len(b) == 0:
		return Finding{}, true
	case b[0] == recordHandshake:
		return TLS(b)
	case 'A' <= b[0] && b[0] <= 'Z':
		return HTTP(b)
	}
	return Finding{}, false
}

// named is a finding of a name that fits.
func named(name string, outer bool) Finding {
	if len(name) > MaxName {
		return Finding{}
	}
	return Finding{Name: name, Outer: outer}
}
