package tlswire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// Flaw is what is wrong with a handshake that has failed.
type Flaw int

const (
	// Untrusted: the certificate is not trusted.
	Untrusted Flaw = 1
	// NotTLS: the peer does not speak TLS, or none of ours.
	NotTLS Flaw = 2
	// Ended: the connection ended, with or without an errno.
	Ended Flaw = 3
)

// Describe tells what is wrong with a handshake that has failed, and why, as the part of a
// sentence: "certificate has expired". The words are OpenSSL's where it has some, because
// they are what people search for.
func Describe(err error, host string) (Flaw, string, unix.Errno) {
	var errno unix.Errno
	var alert *net.OpError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &errno):
		return Ended, "", errno
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return Ended, "", 0
	case errors.As(err, &alert):
		return NotTLS, strings.TrimPrefix(alert.Err.Error(), "tls: "), 0
	case errors.As(err, &header):
		return NotTLS, "wrong version number", 0
	}
	if reason := untrusted(err, host); reason != "" {
		return Untrusted, reason, 0
	}
	return NotTLS, strings.TrimPrefix(err.Error(), "tls: "), 0
}

func untrusted(err error, host string) string {
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &authority):
		if cert := authority.Cert; cert != nil && string(cert.RawIssuer) == string(cert.RawSubject) {
			return "self-signed certificate"
		}
		return "unable to get local issuer certificate"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if invalid.Cert != nil && strings.Contains(invalid.Detail, "is before") {
			return "certificate is not yet valid"
		}
		return "certificate has expired"
	case errors.As(err, &name):
		if net.ParseIP(host) != nil {
			return fmt.Sprintf("IP address mismatch, certificate is not valid for '%s'", host)
		}
		return fmt.Sprintf("Hostname mismatch, certificate is not valid for '%s'", host)
	case errors.As(err, &verification):
		return strings.TrimPrefix(verification.Err.Error(), "x509: ")
	}
	return ""
}

// Ready is what Python hears first of a wire whose handshake is done; what is inside follows.
const Ready = 0

// Message says to Python what has become of a handshake: Ready, or the flaw with the length
// of the reason, and the reason.
func Message(err error, host string) []byte {
	if err == nil {
		return []byte{Ready}
	}
	flaw, reason, errno := Describe(err, host)
	if errno != 0 {
		reason = unix.ErrnoName(errno)
	}
	reason = reason[:min(len(reason), math.MaxUint8)]
	return append([]byte{byte(flaw), byte(len(reason))}, reason...)
}
