package plainhttp

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzRewriter: the result does not depend on the pieces that the input comes in, and
// what comes out is requests in absolute-form, as Go's own parser reads them.
// `go test -fuzz FuzzRewriter ./internal/plainhttp` looks for more than the seeds.
func FuzzRewriter(f *testing.F) {
	for _, seed := range []string{
		request("GET /p HTTP/1.1", "Host: h", "A: b") + request("HEAD / HTTP/1.0"),
		request("POST / HTTP/1.1", "Host: h:80", "Content-Length: 3") + "abc" + request("GET / HTTP/1.1", "Host: h"),
		request("PUT / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n" + request("GET / HTTP/1.1", "Host: h"),
		request("OPTIONS * HTTP/1.1", "Host: 198.51.100.7"),
		request("GET / HTTP/1.1", "Host: h", "Upgrade: h2c", "Connection: Upgrade"),
		"\n\nGET / HTTP/1.1\nHost: h\n\n",
		request("TRACE / HTTP/1.1", "Host: h", "Upgrade: h2c, TLS/1.2"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		whole, reason := feed(t, New(authority, authorization, destination), string(input), 1<<20)
		for _, piece := range []int{1, 5} {
			if got, why := feed(t, New(authority, authorization, destination), string(input), piece); got != whole || why != reason {
				t.Fatalf("in pieces of %d: %q, reason %d; whole: %q, reason %d", piece, got, why, whole, reason)
			}
		}
		for out := bufio.NewReader(bytes.NewBufferString(whole)); ; {
			if _, err := out.Peek(1); err != nil {
				return
			}
			r, err := http.ReadRequest(out)
			if err != nil && strings.Contains(err.Error(), "invalid URL escape") {
				return // the origin is to judge that
			} else if err != nil {
				t.Fatalf("%q: %s", whole, err)
			}
			logins := 1
			if strings.EqualFold(r.Method, http.MethodTrace) {
				logins = 0
			}
			if r.URL.Scheme != "http" || r.URL.Host == "" || r.Host != r.URL.Host || len(r.Header["Proxy-Authorization"]) != logins {
				t.Fatalf("%q is read as %s of %s", whole, r.URL, r.Host)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil && strings.Contains(err.Error(), "unexpected EOF") {
				return // the input ended there as well
			} else if err != nil {
				t.Fatalf("%q: %s", whole, err)
			}
		}
	})
}
