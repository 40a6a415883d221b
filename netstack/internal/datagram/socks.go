package datagram

import (
	"encoding/binary"
	"net/netip"

	"nanotun/netstack/internal/link"
)

// Address types (RFC 1928, section 5).
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// nameLimit is the longest name that a header can hold, in bytes.
const nameLimit = 255

// headerLimit is the longest header that is put before a datagram, in bytes.
const headerLimit = 4 + 1 + nameLimit + 2

// appendHeader appends the header of a datagram to a destination (RFC 1928,
// section 7): RSV, FRAG, ATYP, address, port.
func appendHeader(b []byte, destination *link.End) []byte {
	kind := byte(typeIPv4)
	if destination.Six() {
		kind = typeIPv6
	}
	b = append(b, 0, 0, 0, kind)
	b = append(b, destination.Bytes()...)
	return binary.BigEndian.AppendUint16(b, destination.Port)
}

// appendNameHeader does the same for a destination whose address only the proxy is to
// look up.
func appendNameHeader(b []byte, name string, port uint16) []byte {
	b = append(b, 0, 0, 0, typeName, byte(len(name)))
	b = append(b, name...)
	return binary.BigEndian.AppendUint16(b, port)
}

// parseHeader takes the header off a datagram of the proxy's UDP relay. ok is false
// if it is no header: too short, a fragment, of an unknown type. A name that is not
// an address in text form is returned as an End of no family, with its port.
func parseHeader(b []byte) (source link.End, payload []byte, ok bool) {
	if len(b) < 5 || b[2] != 0 {
		return source, nil, false
	}
	size := 0
	switch b[3] {
	case typeIPv4:
		size, source.Family = 4, 4
	case typeIPv6:
		size, source.Family = 16, 6
	case typeName:
		size = 1 + int(b[4])
	default:
		return source, nil, false
	}
	rest := b[4:]
	if len(rest) < size+2 {
		return source, nil, false
	}
	if b[3] == typeName {
		if address, err := netip.ParseAddr(string(rest[1:size])); err == nil && address.Zone() == "" {
			source = endOf(address)
		}
	} else {
		copy(source.Host[:], rest[:size])
		source = unmapped(source)
	}
	source.Port = binary.BigEndian.Uint16(rest[size:])
	return source, rest[size+2:], true
}

// endOf is an End without its port.
func endOf(address netip.Addr) (e link.End) {
	address = address.Unmap()
	e.Family = 4
	if address.Is6() {
		e.Family = 6
	}
	copy(e.Host[:], address.AsSlice())
	return e
}

// unmapped turns an IPv4-mapped IPv6 address into the IPv4 address: some proxies use
// IPv6 sockets and forget to.
func unmapped(e link.End) link.End {
	if !e.Six() || !netip.AddrFrom16(e.Host).Is4In6() {
		return e
	}
	port := e.Port
	e = endOf(netip.AddrFrom16(e.Host))
	e.Port = port
	return e
}
