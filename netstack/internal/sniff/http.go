package sniff

import (
	"bufio"
	"bytes"
	"net"
	"net/textproto"
	"strings"
)

// maxMethod is the length of a method that is long already.
const maxMethod = 32

// HTTP is Stream for what may be the head of an HTTP/1 request, RFC 9112. Its Host is
// given without the port.
func HTTP(b []byte) (found Finding, more bool) {
	line, rest, whole := bytes.Cut(b, []byte("\n"))
	if method, _, ended := bytes.Cut(line, []byte(" ")); !isMethod(method) || !ended && whole {
		return Finding{}, false
	}
	if !whole {
		return Finding{}, len(b) < Limit
	}
	if version := bytes.TrimSuffix(line, []byte("\r")); !bytes.HasSuffix(version, []byte(" HTTP/1.1")) &&
		!bytes.HasSuffix(version, []byte(" HTTP/1.0")) {
		return Finding{}, false // HTTP/2 says its name elsewhere, and something else says none
	}
	if !bytes.Contains(b, []byte("\n\r\n")) && !bytes.Contains(b, []byte("\n\n")) {
		return Finding{}, len(b) < Limit
	}
	head, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(rest))).ReadMIMEHeader()
	if err != nil || len(head["Host"]) != 1 {
		return Finding{}, false
	}
	return named(withoutPort(head["Host"][0]), false), false
}

// isMethod tells whether this may be a method, or the beginning of one.
func isMethod(method []byte) bool {
	if len(method) == 0 || len(method) > maxMethod {
		return false
	}
	for _, c := range method {
		if (c < 'A' || 'Z' < c) && c != '-' {
			return false
		}
	}
	return true
}

func withoutPort(authority string) string {
	authority = strings.TrimSpace(authority)
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return authority
}
