package dial

import "bytes"

// fieldLimit is how many fields a head may have.
const fieldLimit = 100

// lengthDigits is how many digits a Content-Length may have.
const lengthDigits = 18

// head reads the head of an HTTP/1 answer of 2xx (RFC 9112), line by line. It takes nothing
// that parsers differ about: h11, which Python's handshake uses, then finds the same end.
type head struct {
	at       int // where the line that is not complete begins
	started  bool
	fields   int
	hasTaken bool // a Content-Length
}

// read returns how long the head is, if all of it is there; -1 if it is something else.
func (h *head) read(answer []byte) (length int, complete bool) {
	for {
		line := answer[h.at:]
		end := bytes.IndexByte(line, '\n')
		if end < 0 {
			if !h.started && !isStatusLine(line, false) {
				return -1, false
			}
			return 0, false
		}
		if end == 0 || line[end-1] != '\r' {
			return -1, false
		}
		h.at += end + 1
		line = line[:end-1]
		switch {
		case !h.started:
			if h.started = isStatusLine(line, true); !h.started {
				return -1, false
			}
		case len(line) == 0:
			return h.at, true
		case !h.isField(line):
			return -1, false
		}
	}
}

const statusLine = "HTTP/1.x 2xx"

// isStatusLine tells whether a line is one of 2xx or, if it is not whole, may become one.
func isStatusLine(line []byte, whole bool) bool {
	if whole && len(line) < len(statusLine) {
		return false
	}
	for i, b := range line[:min(len(line), len(statusLine))] {
		switch i {
		case 7:
			if b != '0' && b != '1' {
				return false
			}
		case 10, 11:
			if b < '0' || b > '9' {
				return false
			}
		default:
			if b != statusLine[i] {
				return false
			}
		}
	}
	if len(line) <= len(statusLine) {
		return true
	}
	rest := line[len(statusLine):]
	if !whole {
		rest = bytes.TrimSuffix(rest, []byte{'\r'}) // its line feed may follow
	}
	return len(rest) == 0 || rest[0] == ' ' && isText(rest)
}

// isField counts a field, and tells whether it is a simple one.
func (h *head) isField(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	name, value := line[:colon], line[colon+1:]
	for _, b := range name {
		if !isToken(b) {
			return false
		}
	}
	if h.fields++; h.fields > fieldLimit || !isText(value) {
		return false
	}
	switch {
	case bytes.EqualFold(name, []byte("content-length")):
		// It means nothing here, but h11 reads it.
		if h.hasTaken || !isLength(bytes.Trim(value, " \t")) {
			return false
		}
		h.hasTaken = true
	case bytes.EqualFold(name, []byte("transfer-encoding")):
		return false
	}
	return true
}

func isLength(value []byte) bool {
	for _, b := range value {
		if b < '0' || b > '9' {
			return false
		}
	}
	return 0 < len(value) && len(value) <= lengthDigits
}

// isText tells whether all of it is visible ASCII, space or tab.
func isText(p []byte) bool {
	for _, b := range p {
		if b != '\t' && (b < ' ' || b > '~') {
			return false
		}
	}
	return true
}

// isToken tells whether a byte may be in a field's name (RFC 9110, section 5.6.2).
func isToken(b byte) bool {
	switch {
	case '0' <= b && b <= '9', 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z':
		return true
	}
	return bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), b) >= 0
}
