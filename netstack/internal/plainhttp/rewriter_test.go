package plainhttp

import (
	"net/netip"
	"strings"
	"testing"
)

const (
	authority     = "name.example"
	authorization = "Basic dTpw"
	login         = "Proxy-Authorization: " + authorization + "\r\n"
)

var destination = netip.MustParseAddr("198.51.100.7")

// pieces are the sizes that every input is cut into.
var pieces = []int{1, 2, 7, 1000}

// feed gives the input to a rewriter in pieces, and returns what is to be sent.
// A body must not pass through Pending: that would copy it.
func feed(t *testing.T, r *Rewriter, input string, piece int) (string, Reason) {
	t.Helper()
	var sent strings.Builder
	for left := input; left != ""; {
		p := []byte(left[:min(piece, len(left))])
		left = left[len(p):]
		for len(p) > 0 {
			if n := r.Body(p); n > 0 {
				if len(r.Pending()) > 0 {
					t.Error("a body overtakes what is pending")
				}
				sent.Write(p[:n])
				r.Passed(n)
				p = p[n:]
				continue
			}
			n, why := r.Translate(p)
			if n == 0 || n > len(p) {
				t.Fatalf("%d of %d bytes were taken", n, len(p))
			}
			if why != 0 {
				return sent.String(), why
			}
			p = p[n:]
			sent.Write(r.Pending())
			r.Sent(len(r.Pending()))
		}
	}
	return sent.String(), 0
}

func request(line string, fields ...string) string {
	return line + "\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// absolute is a request as the proxy is to see it.
func absolute(line, host string, fields ...string) string {
	return request(line, append(append([]string{"Host: " + host}, fields...), "Proxy-Authorization: "+authorization)...)
}

// Each kind of request becomes one to a proxy, whatever the pieces it comes in.
func TestTranslated(t *testing.T) {
	for name, test := range map[string]struct{ input, want string }{
		"a name":            {request("GET /p?q HTTP/1.1", "Host: h.example", "A: b"), absolute("GET http://h.example/p?q HTTP/1.1", "h.example", "A: b")},
		"its port is 80":    {request("GET / HTTP/1.1", "Host: h.example:80"), absolute("GET http://h.example/ HTTP/1.1", "h.example")},
		"no host":           {request("GET / HTTP/1.0"), absolute("GET http://name.example/ HTTP/1.0", authority)},
		"an empty host":     {request("GET / HTTP/1.1", "Host:"), absolute("GET http://name.example/ HTTP/1.1", authority)},
		"the address":       {request("GET / HTTP/1.1", "Host: 198.51.100.7"), absolute("GET http://name.example/ HTTP/1.1", authority)},
		"the address, port": {request("GET / HTTP/1.1", "Host: 198.51.100.7:80"), absolute("GET http://name.example/ HTTP/1.1", authority)},
		"the whole server":  {request("OPTIONS * HTTP/1.1", "Host: h"), absolute("OPTIONS http://h HTTP/1.1", "h")},
		"a head only":       {request("HEAD / HTTP/1.1", "Host: h"), absolute("HEAD http://h/ HTTP/1.1", "h")},
		"bare line feeds":   {"\nGET / HTTP/1.1\nHost: h\nA: b\n\n", absolute("GET http://h/ HTTP/1.1", "h", "A: b")},
		"the app's log-in": {
			request("GET / HTTP/1.1", "Host: h", "Proxy-Authorization: Basic eA==", "Proxy-Connection: close"),
			absolute("GET http://h/ HTTP/1.1", "h"),
		},
		"an offer of HTTP/2": {
			request("GET / HTTP/1.1", "Host: h", "Connection: keep-alive, Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
			absolute("GET http://h/ HTTP/1.1", "h", "Connection: keep-alive"),
		},
		"that offer alone": {
			request("GET / HTTP/1.1", "Host: h", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
			absolute("GET http://h/ HTTP/1.1", "h"),
		},
		"an offer of TLS": {
			request("GET / HTTP/1.1", "Host: h", "Upgrade: TLS/1.2", "Connection: Upgrade"),
			absolute("GET http://h/ HTTP/1.1", "h"),
		},
		"offers of both": {
			request("GET / HTTP/1.1", "Host: h", "Upgrade: h2c, tls/1.3", "Upgrade: TLS/1.2", "Connection: Upgrade"),
			absolute("GET http://h/ HTTP/1.1", "h"),
		},
		"a request to send it back": { // without the log-in
			request("TRACE / HTTP/1.1", "Host: h", "Max-Forwards: 0"),
			request("TRACE http://h/ HTTP/1.1", "Host: h", "Max-Forwards: 0"),
		},
		"the same in lower case": { // as squid understands it
			request("trace / HTTP/1.1", "Host: h", "Max-Forwards: 0"),
			request("trace http://h/ HTTP/1.1", "Host: h", "Max-Forwards: 0"),
		},
		"a length": {
			request("POST / HTTP/1.1", "Host: h", "Content-Length: 5") + "GET /",
			absolute("POST http://h/ HTTP/1.1", "h", "Content-Length: 5") + "GET /",
		},
		"no length": {request("POST / HTTP/1.1", "Host: h", "Content-Length: 0"), absolute("POST http://h/ HTTP/1.1", "h", "Content-Length: 0")},
		"chunks": {
			request("PUT / HTTP/1.1", "Host: h", "Transfer-Encoding: Chunked") + "5;a=b\r\nhello\r\n00A\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
			absolute("PUT http://h/ HTTP/1.1", "h", "Transfer-Encoding: Chunked") + "5\r\nhello\r\na\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
		},
		"no trailers": {
			request("PUT / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") +
				"0\r\nContent-Length: 5\r\nHost: x\r\nTransfer-Encoding: x\r\nproxy-authorization: x\r\nProxy-Connection: x\r\nT: x\r\n\r\n",
			absolute("PUT http://h/ HTTP/1.1", "h", "Transfer-Encoding: chunked") + "0\r\nT: x\r\n\r\n",
		},
		"a wait for 100": {
			request("PUT / HTTP/1.1", "Host: h", "Expect: 100-continue", "Content-Length: 1") + "x",
			absolute("PUT http://h/ HTTP/1.1", "h", "Expect: 100-continue", "Content-Length: 1") + "x",
		},
	} {
		for _, piece := range pieces {
			got, why := feed(t, New(authority, authorization, destination), test.input, piece)
			if got != test.want || why != 0 {
				t.Errorf("%s, in pieces of %d: reason %d, %q", name, piece, why, got)
			}
		}
	}
}

// What cannot be a request to a proxy is refused, with the reason, whatever the
// pieces it comes in.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		input string
		want  Reason
	}{
		"TLS":                {"\x16\x03\x01\x02\x00\x01", NotHTTP},
		"SSH":                {"SSH-2.0-OpenSSH_9.2\r\n", NotHTTP},
		"SMTP":               {"EHLO x\r\n", NotHTTP},
		"HTTP/2":             {"PRI * HTTP/2.0\r\n", NotHTTP},
		"HTTP/0.9":           {"GET /\r\n", NotHTTP},
		"HTTP/1.2":           {request("GET / HTTP/1.2", "Host: h"), NotHTTP},
		"blank lines":        {strings.Repeat("\r\n", 5), NotHTTP},
		"two hosts":          {request("GET / HTTP/1.1", "Host: h", "Host: h"), NotHTTP},
		"a folded line":      {request("GET / HTTP/1.1", "Host: h", "A: b", " c"), NotHTTP},
		"a blank":            {request("GET / HTTP/1.1", "Host : h"), NotHTTP},
		"no colon":           {request("GET / HTTP/1.1", "Host"), NotHTTP},
		"NUL":                {request("GET / HTTP/1.1", "Host: h", "A: \x00"), NotHTTP},
		"CR inside":          {request("GET / HTTP/1.1", "Host: h", "A: b\rC: d"), NotHTTP},
		"two lengths":        {request("POST / HTTP/1.1", "Host: h", "Content-Length: 1", "Content-Length: 2"), NotHTTP},
		"no number":          {request("POST / HTTP/1.1", "Host: h", "Content-Length: +1"), NotHTTP},
		"too large":          {request("POST / HTTP/1.1", "Host: h", "Content-Length: 9223372036854775808"), NotHTTP},
		"length and chunks":  {request("POST / HTTP/1.1", "Host: h", "Content-Length: 1", "Transfer-Encoding: chunked"), NotHTTP},
		"two codings":        {request("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: gzip, chunked"), NotHTTP},
		"two lines of them":  {request("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), NotHTTP},
		"an empty coding":    {request("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: ,chunked"), NotHTTP},
		"chunks in 1.0":      {request("POST / HTTP/1.0", "Host: h", "Transfer-Encoding: chunked"), NotHTTP},
		"no chunk":           {request("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "-1\r\n", NotHTTP},
		"a long chunk":       {request("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "1\r\nab\r\n", NotHTTP},
		"a long size":        {request("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + strings.Repeat("0", 2<<10), NotHTTP},
		"a trailing request": {request("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "0\r\nGET / HTTP/1.1\r\n\r\n", NotHTTP},
		"a relative path":    {request("GET p HTTP/1.1", "Host: h"), NotHTTP},
		"a WebSocket":        {request("GET / HTTP/1.1", "Host: h", "Upgrade: websocket"), Upgrade},
		"a needed offer":     {request("GET / HTTP/1.1", "Host: h", "Upgrade: h2c, websocket"), Upgrade},
		"no offer":           {request("GET / HTTP/1.1", "Host: h", "Upgrade:"), Upgrade},
		"one of two offers":  {request("GET / HTTP/1.1", "Host: h", "Upgrade: h2c", "Upgrade: websocket"), Upgrade},
		"CONNECT":            {request("CONNECT h:443 HTTP/1.1", "Host: h:443"), ProxyRequest},
		"connect":            {request("connect /x HTTP/1.1", "Host: h"), ProxyRequest},
		"absolute-form":      {request("GET http://other/ HTTP/1.1", "Host: h"), ProxyRequest},
		"another address":    {request("GET / HTTP/1.1", "Host: 198.51.100.8"), OtherHost},
		"another family":     {request("GET / HTTP/1.1", "Host: [2001:db8::7]"), OtherHost},
		"a zone":             {request("GET / HTTP/1.1", "Host: [fe80::1%25eth0]"), OtherHost},
		"another port":       {request("GET / HTTP/1.1", "Host: h:8080"), OtherHost},
		"the proxy itself":   {request("GET / HTTP/1.1", "Host: LocalHost"), OtherHost},
		"below it":           {request("GET / HTTP/1.1", "Host: a.localhost."), OtherHost},
		"a number":           {request("GET / HTTP/1.1", "Host: 2130706433"), OtherHost},
		"a hex number":       {request("GET / HTTP/1.1", "Host: 0x7f.1"), OtherHost},
		"its last part":      {request("GET / HTTP/1.1", "Host: 127.0x1"), OtherHost},
		"a user":             {request("GET / HTTP/1.1", "Host: u@h"), NotHTTP},
		"a path in it":       {request("GET / HTTP/1.1", "Host: h/x"), NotHTTP},
		"a long head":        {"GET / HTTP/1.1\r\n" + strings.Repeat("A: bcdefghij\r\n", 5<<10), TooLong},
		"a long line":        {"GET /" + strings.Repeat("a", headLimit), NotHTTP},
		"second on a connection": {
			request("GET / HTTP/1.1", "Host: h") + request("GET / HTTP/1.1", "Host: h", "Upgrade: websocket"), Upgrade,
		},
	} {
		for _, piece := range pieces {
			if _, why := feed(t, New(authority, authorization, destination), test.input, piece); why != test.want {
				t.Errorf("%s, in pieces of %d: reason %d, not %d", name, piece, why, test.want)
			}
		}
	}
}

// What is not HTTP is refused at its first byte, or at the end of its first line:
// nobody waits for an empty line that never comes.
func TestRefusedEarly(t *testing.T) {
	for _, input := range []string{"\x16", "\x00", "{", "SSH-2.0-x\n"} {
		for n := range len(input) {
			_, why := feed(t, New(authority, "", destination), input[:n+1], 1000)
			if last := n == len(input)-1; last != (why != 0) {
				t.Errorf("%q: reason %d", input[:n+1], why)
			}
		}
	}
}

// The destination's address is compared in each way to write it.
func TestAddressAsHost(t *testing.T) {
	for _, test := range []struct{ address, host string }{
		{"2001:db8::7", "[2001:db8::7]"},
		{"2001:db8::7", "[2001:DB8:0:0::7]:80"},
		{"198.51.100.7", "[::ffff:198.51.100.7]"},
		{"::ffff:198.51.100.7", "198.51.100.7"},
	} {
		r := New("[2001:db8::7]", "", netip.MustParseAddr(test.address))
		got, why := feed(t, r, request("GET / HTTP/1.1", "Host: "+test.host), 1000)
		if want := request("GET http://[2001:db8::7]/ HTTP/1.1", "Host: [2001:db8::7]"); got != want || why != 0 {
			t.Errorf("%s for %s: reason %d, %q", test.host, test.address, why, got)
		}
	}
}

// Every request of a connection has the log-in, once, those behind a body too;
// without a log-in none has.
func TestEveryRequestHasTheLogin(t *testing.T) {
	input := request("GET /1 HTTP/1.1", "Host: h") +
		request("PUT /2 HTTP/1.1", "Host: h", "Content-Length: 3") + "abc" +
		request("PUT /3 HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "1\r\nx\r\n0\r\n\r\n" +
		request("GET /4 HTTP/1.1", "Host: h")
	for _, piece := range pieces {
		got, why := feed(t, New(authority, authorization, destination), input, piece)
		if n := strings.Count(got, login); n != 4 || why != 0 {
			t.Errorf("in pieces of %d: %d log-ins, reason %d, %q", piece, n, why, got)
		}
		if got, _ := feed(t, New(authority, "", destination), input, piece); strings.Contains(got, "Authorization") {
			t.Errorf("a log-in that nobody gave: %q", got)
		}
	}
}

// A rewriter between two requests holds no buffer: many connections are idle.
func TestIdleHoldsNothing(t *testing.T) {
	r := New(authority, authorization, destination)
	feed(t, r, request("GET / HTTP/1.1", "Host: h"), 1000)
	if r.in != nil || r.out != nil {
		t.Errorf("%d and %d bytes", cap(r.in), cap(r.out))
	}
}
