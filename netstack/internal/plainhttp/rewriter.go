// Package plainhttp turns an app's requests to an origin server into requests to a
// proxy: absolute-form (RFC 9112, section 3.2.2). It does no I/O, and looks at requests only.
package plainhttp

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// Reason is why an app's bytes are not sent on; netstack.h, NS_HTTP_...
type Reason int32

const (
	NotHTTP      Reason = 1 // not HTTP/1, or not by the letter
	Upgrade      Reason = 2 // it wants another protocol on this connection
	ProxyRequest Reason = 3 // CONNECT or absolute-form: the app takes the server for a proxy
	OtherHost    Reason = 4 // Host is another port or address than the app connected to
	Login        Reason = 5 // the proxy answered 407
	TooLong      Reason = 6 // a head of more than headLimit
)

const (
	headLimit  = 64 << 10 // bytes; squid takes as many, other proxies fewer
	lineLimit  = 1 << 10  // bytes of a chunk's size line
	blankLimit = 8        // bytes of empty lines before a request (RFC 9112, section 2.2)
)

type state uint8

const (
	inHead  state = iota // request line and fields
	inBody               // left bytes of Content-Length
	inSize               // a chunk's size line
	inChunk              // left bytes of a chunk
	inEnd                // the line end behind a chunk
	inTail               // trailer fields
)

// Rewriter is one connection's; its methods are called by one goroutine at a time.
type Rewriter struct {
	authority, authorization string
	destination              netip.Addr
	state                    state
	left                     uint64 // of a body or chunk
	blank                    int
	in                       []byte // of a line or head that is not whole
	out                      []byte // translated, not sent
}

// New makes one. authority stands in for a missing Host and for destination, which
// is the address that the app connected to; authorization may be empty.
func New(authority, authorization string, destination netip.Addr) *Rewriter {
	return &Rewriter{authority: authority, authorization: authorization, destination: destination.Unmap()}
}

// Pending is what has to be sent before anything else.
func (r *Rewriter) Pending() []byte { return r.out }

// Sent says how much of Pending was.
func (r *Rewriter) Sent(n int) {
	if r.out = r.out[n:]; len(r.out) == 0 {
		r.out = nil // an idle flow holds no buffer
	}
}

// Body returns how many bytes at the beginning of p are to be sent as they are.
func (r *Rewriter) Body(p []byte) int {
	if r.state != inBody && r.state != inChunk {
		return 0
	}
	return int(min(uint64(len(p)), r.left))
}

// Passed says how many of those were sent.
func (r *Rewriter) Passed(n int) {
	if r.left -= uint64(n); r.left > 0 {
		return
	}
	if r.state == inBody {
		r.state = inHead
	} else {
		r.state = inEnd
	}
}

// Translate takes bytes that are no body, at least one, and adds to Pending.
func (r *Rewriter) Translate(p []byte) (taken int, why Reason) {
	end := bytes.IndexByte(p, '\n')
	taken = end + 1
	if end < 0 {
		taken = len(p)
	}
	start := len(r.in)
	r.in = append(r.in, p[:taken]...)
	limit := lineLimit
	if r.state == inHead || r.state == inTail {
		limit = headLimit
	}
	if start == 0 && r.state == inHead && !isToken(r.in[0]) && r.in[0] != '\r' && r.in[0] != '\n' {
		return taken, NotHTTP // TLS, say: nothing would ever end its line
	}
	if len(r.in) > limit {
		if r.state != inHead || bytes.IndexByte(r.in[:limit], '\n') < 0 {
			return taken, NotHTTP
		}
		return taken, TooLong
	}
	if end < 0 {
		return taken, 0
	}
	return taken, r.line(start)
}

// line is called when in ends with a line feed.
func (r *Rewriter) line(start int) Reason {
	switch r.state {
	case inHead, inTail:
		// start is where these bytes began, not the line.
		begin := bytes.LastIndexByte(r.in[:len(r.in)-1], '\n') + 1
		if len(trimEnd(r.in[begin:])) > 0 {
			if begin == 0 && r.state == inHead && !bytes.Contains(r.in, []byte(" HTTP/1.")) {
				return NotHTTP // SSH, SMTP, HTTP/0.9: do not wait for an empty line
			}
			return 0
		}
		if r.state == inTail {
			return r.tail()
		}
		if begin == 0 {
			r.blank += len(r.in)
			r.in = r.in[:0]
			if r.blank > blankLimit {
				return NotHTTP
			}
			return 0
		}
		r.blank = 0
		return r.head()
	case inEnd:
		if len(trimEnd(r.in)) > 0 {
			return NotHTTP
		}
		r.in, r.state = r.in[:0], inSize
		r.out = append(r.out, "\r\n"...)
		return 0
	}
	return r.size()
}

func (r *Rewriter) size() Reason {
	text, _, _ := strings.Cut(string(trimEnd(r.in)), ";") // extensions are between neighbours
	text = strings.TrimRight(text, " \t")
	n, err := strconv.ParseUint(text, 16, 63)
	if err != nil || strings.ContainsAny(text, "+-_xX") {
		return NotHTTP
	}
	r.in = r.in[:0]
	r.out = append(strconv.AppendUint(r.out, n, 16), "\r\n"...)
	if r.left, r.state = n, inChunk; n == 0 {
		r.state = inTail
	}
	return 0
}

func (r *Rewriter) tail() Reason {
	for _, line := range lines(r.in) {
		name, _, ok := field(line)
		if !ok {
			return NotHTTP
		}
		switch name {
		case "host", "content-length", "transfer-encoding", "proxy-authorization", "proxy-connection":
			continue // no trailers (RFC 9110, section 6.5.1), but some parser might take them
		}
		r.out = append(append(r.out, line...), "\r\n"...)
	}
	r.out = append(r.out, "\r\n"...)
	r.in, r.state = nil, inHead
	return 0
}

// head translates a whole head.
func (r *Rewriter) head() Reason {
	all := lines(r.in)
	method, rest, ok := strings.Cut(string(all[0]), " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || !allTokens(method) || target == "" || !visible(target) || version != "HTTP/1.1" && version != "HTTP/1.0" {
		return NotHTTP
	}
	var host, length string
	var size uint64
	var chunked, coded, upgrade, needed, hosted bool
	for _, line := range all[1:] {
		name, value, ok := field(line)
		if !ok {
			return NotHTTP
		}
		switch name {
		case "host":
			if hosted {
				return NotHTTP
			}
			host, hosted = value, true
		case "content-length":
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil || length != "" && length != value || !digits(value) {
				return NotHTTP
			}
			length, size = value, n
		case "transfer-encoding":
			if coded {
				return NotHTTP
			}
			coded = true
			chunked = strings.EqualFold(value, "chunked")
		case "upgrade":
			upgrade = true
			needed = needed || !offersOnly(value)
		}
	}
	switch {
	case strings.EqualFold(method, "CONNECT"): // squid takes it in lower case, too
		return ProxyRequest
	case needed:
		return Upgrade
	case coded && (!chunked || length != "" || version == "HTTP/1.0"):
		return NotHTTP
	}
	authority, why := r.named(host)
	if why != 0 {
		return why
	}
	switch {
	case target[0] == '/':
	case target == "*" && method == "OPTIONS":
		target = "" // RFC 9112, section 3.2.4
	case strings.Contains(target, ":"):
		return ProxyRequest
	default:
		return NotHTTP
	}
	out := append(r.out, method+" http://"+authority+target+" "+version+"\r\nHost: "+authority+"\r\n"...)
	for _, line := range all[1:] {
		name, value, _ := field(line)
		switch name {
		case "host", "proxy-authorization", "proxy-connection":
			continue
		case "upgrade", "http2-settings":
			if upgrade {
				continue
			}
		case "connection":
			if upgrade {
				if value = without(value, "upgrade", "http2-settings"); value == "" {
					continue
				}
				line = []byte("Connection: " + value)
			}
		}
		out = append(append(out, line...), "\r\n"...)
	}
	// A proxy that answers TRACE itself sends back what it got (RFC 9110, section 9.3.8).
	if r.authorization != "" && !strings.EqualFold(method, "TRACE") {
		out = append(out, "Proxy-Authorization: "+r.authorization+"\r\n"...)
	}
	r.out = append(out, "\r\n"...)
	r.in = nil
	switch {
	case chunked:
		r.state = inSize
	case size > 0:
		r.left, r.state = size, inBody
	}
	return 0
}

// named is the authority to ask the proxy for.
func (r *Rewriter) named(host string) (string, Reason) {
	if host == "" {
		return r.authority, 0
	}
	name := strings.TrimSuffix(host, ":80")
	if strings.HasPrefix(host, "[") && !strings.HasSuffix(name, "]") || !strings.HasPrefix(host, "[") && strings.Contains(name, ":") {
		return "", OtherHost
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if address, err := netip.ParseAddr(bare); err == nil {
		if address.Unmap() != r.destination {
			return "", OtherHost
		}
		return r.authority, 0
	}
	if !hostName(name) {
		return "", NotHTTP
	}
	lower := strings.ToLower(strings.TrimSuffix(name, "."))
	last := lower[strings.LastIndexByte(lower, '.')+1:]
	if last == "localhost" || strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return "", OtherHost // the proxy's own machine, or another way to write an address
	}
	return name, 0
}

// offersOnly tells whether a server may ignore a value of Upgrade, and those who send it
// expect that many do: HTTP/2, which Java offers with every request, and TLS (RFC 2817,
// section 3.1), which Apache's HttpClient does.
func offersOnly(value string) bool {
	for _, each := range strings.Split(value, ",") {
		protocol, _, _ := strings.Cut(strings.ToLower(strings.Trim(each, " \t")), "/")
		if protocol != "h2c" && protocol != "tls" {
			return false
		}
	}
	return true
}

func lines(head []byte) (found [][]byte) {
	for _, line := range bytes.Split(head, []byte{'\n'}) {
		if line = trimEnd(line); len(line) > 0 {
			found = append(found, line)
		}
	}
	return found
}

func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
}

func field(line []byte) (name, value string, ok bool) {
	name, value, ok = strings.Cut(string(line), ":")
	if !ok || !allTokens(name) || strings.ContainsFunc(value, isControl) {
		return "", "", false
	}
	return strings.ToLower(name), strings.Trim(value, " \t"), true
}

func without(list string, names ...string) string {
	var kept []string
next:
	for _, each := range strings.Split(list, ",") {
		each = strings.TrimSpace(each)
		for _, name := range names {
			if strings.EqualFold(each, name) {
				continue next
			}
		}
		kept = append(kept, each)
	}
	return strings.Join(kept, ", ")
}

func isToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isControl(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }

func every(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return s != ""
}

func allTokens(s string) bool { return every(s, isToken) }
func digits(s string) bool    { return every(s, func(c byte) bool { return c >= '0' && c <= '9' }) }
func visible(s string) bool   { return every(s, func(c byte) bool { return c > ' ' && c != 0x7f }) }
func hostName(s string) bool {
	return every(s, func(c byte) bool { return isToken(c) && strings.IndexByte("!#$%&'*+^`|", c) < 0 })
}
