package sniff

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"

	"nanotun/netstack/internal/snifftest"
)

// The server name of a ClientHello is found once all of it has come; each part of it
// asks for more, and none gives another name.
func TestTLS(t *testing.T) {
	for name, config := range map[string]*tls.Config{
		"TLS 1.3": {ServerName: "www.corp.example", NextProtos: []string{"h2", "http/1.1"}},
		"TLS 1.2": {ServerName: "www.corp.example", MaxVersion: tls.VersionTLS12},
		"no name": {InsecureSkipVerify: true},
	} {
		t.Run(name, func(t *testing.T) {
			hello := snifftest.Hello(config)
			for i := range hello {
				if found, more := Stream(hello[:i]); found != (Finding{}) || !more {
					t.Fatalf("%d of %d bytes: %v, more: %t", i, len(hello), found, more)
				}
			}
			for _, after := range []string{"", "\x14\x03\x03\x00\x01\x01", strings.Repeat("x", Limit)} {
				if found, more := Stream(append(bytes.Clone(hello), after...)); found != (Finding{Name: config.ServerName}) || more {
					t.Errorf("and %d bytes: %v, more: %t", len(after), found, more)
				}
			}
		})
	}
}

// A ClientHello that is spread over several records is read, too.
func TestRecords(t *testing.T) {
	hello := snifftest.Hello(&tls.Config{ServerName: "www.corp.example"})
	var spread []byte
	for body := hello[recordHeader:]; len(body) > 0; {
		n := min(len(body), 100)
		spread = append(spread, recordHandshake, 3, 1, 0, byte(n))
		spread = append(spread, body[:n]...)
		body = body[n:]
	}
	for i := range spread {
		if found, more := Stream(spread[:i]); found != (Finding{}) || !more {
			t.Fatalf("%d of %d bytes: %v, more: %t", i, len(spread), found, more)
		}
	}
	if found, more := Stream(spread); found.Name != "www.corp.example" || more {
		t.Errorf("%v, more: %t", found, more)
	}
}

// A name that may only be the outer one is marked as that.
func TestOuter(t *testing.T) {
	hello := snifftest.Hello(&tls.Config{ServerName: "cover.example"})
	// At the end of the extensions, the lengths of which are in three headers.
	extension := []byte{0xfe, 0x0d, 0, 11, 0, 0, 1, 0, 1, 7, 0, 0, 0, 1, 9}
	session := recordHeader + 4 + 2 + 32
	suites := session + 1 + int(hello[session])
	methods := suites + 2 + int(hello[suites])<<8 + int(hello[suites+1])
	extensions := methods + 1 + int(hello[methods])
	longer := append(bytes.Clone(hello), extension...)
	for _, at := range []int{3, recordHeader + 2, extensions} {
		length := int(longer[at])<<8 + int(longer[at+1]) + len(extension)
		longer[at], longer[at+1] = byte(length>>8), byte(length)
	}
	if found, more := Stream(longer); found != (Finding{Name: "cover.example", Outer: true}) || more {
		t.Errorf("%v, more: %t", found, more)
	}
}

// The Host of an HTTP request is found without its port.
func TestHTTP(t *testing.T) {
	for request, name := range map[string]string{
		"GET / HTTP/1.1\r\nHost: www.corp.example\r\n\r\n":                               "www.corp.example",
		"GET / HTTP/1.0\nhost:www.corp.example:8080\nAccept: */*\n\n":                    "www.corp.example",
		"POST /a HTTP/1.1\r\nAccept: */*\r\nHOST:  www.corp.example \r\n\r\nHost: other": "www.corp.example",
		"M-SEARCH * HTTP/1.1\r\nHost: [fd00::1]:1900\r\n\r\n":                            "fd00::1",
		"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n":                      "b.example",
		"GET / HTTP/1.0\r\n\r\n":                                                         "",
		"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n":                   "",
		"GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 256) + "\r\n\r\n":               "",
	} {
		head := request[:strings.LastIndex(request, "\n")+1]
		for i := range head {
			if found, more := Stream([]byte(head[:i])); found != (Finding{}) || !more {
				t.Fatalf("%q: %v, more: %t", head[:i], found, more)
			}
		}
		if found, more := Stream([]byte(request)); found != (Finding{Name: name}) || more {
			t.Errorf("%q: %v, more: %t", request, found, more)
		}
	}
}

// What is neither TLS nor HTTP has no name, and nothing more is waited for.
func TestOthers(t *testing.T) {
	for _, b := range []string{
		"SSH-2.0-OpenSSH_9.2\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"EHLO a.example\r\n",
		"hello",
		"\x16\x03\x01\x00\x03\x09\x09\x09",
		"\x00",
		strings.Repeat("A", maxMethod+1),
		"GET\r\n",
		"GET / HTTP/1.1\r\nno header\r\n\r\n",
		"GET / " + strings.Repeat("a", Limit),
		"GET / HTTP/1.1\r\nHost: a.example\r\nCookie: " + strings.Repeat("a", Limit),
	} {
		if found, more := Stream([]byte(b)); found != (Finding{}) || more {
			t.Errorf("%.40q: %v, more: %t", b, found, more)
		}
	}
}

// Nothing that an app can send makes it panic, and nothing makes it wait for ever.
func FuzzStream(f *testing.F) {
	f.Add(snifftest.Hello(&tls.Config{ServerName: "www.corp.example"}))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if found, more := Stream(b); more && (len(b) >= Limit || found != (Finding{})) {
			t.Errorf("%v after %d bytes", found, len(b))
		}
	})
}
