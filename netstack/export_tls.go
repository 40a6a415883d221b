package main

// What belongs to the process, and to no stack.

/*
#include <errno.h>
#include "netstack.h"
*/
import "C"

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"nanotun/netstack/internal/couple"
	"nanotun/netstack/internal/lent"
	"nanotun/netstack/internal/tlswire"
)

//export ns_tls
func ns_tls(authorities unsafe.Pointer, length C.size_t, insecure C.uint32_t, host, protocols *C.char) (result C.int) {
	defer guard(0, &result)
	number, err := tlswire.Number(tlswire.Options{
		Authorities: C.GoBytes(authorities, C.int(length)),
		Insecure:    insecure != 0,
		Host:        C.GoString(host),
		Protocols:   strings.FieldsFunc(C.GoString(protocols), func(r rune) bool { return r == ',' }),
	})
	if err != nil {
		return -C.int(errnoOf(err))
	}
	return C.int(number)
}

//export ns_secure
func ns_secure(fd C.int, number C.uint32_t, early unsafe.Pointer, length C.size_t) (result C.int) {
	defer guard(0, &result)
	config := tlswire.Numbered(uint32(number))
	if config == nil {
		_ = unix.Close(int(fd))
		return -C.EINVAL
	}
	end, err := lent.Secure(int(fd), C.GoBytes(early, C.int(length)), config)
	if err != nil {
		return -C.int(errnoOf(err))
	}
	return C.int(end)
}

//export ns_lent_socket
func ns_lent_socket(fd C.int) (result C.int) {
	defer guard(0, &result)
	socket, err := lent.Socket(int(fd))
	if err != nil {
		return -C.int(errnoOf(err))
	}
	return C.int(socket)
}

//export ns_couple
func ns_couple(one, other C.int) (result C.int) {
	defer guard(0, &result)
	if err := couple.Join(int(one), int(other)); err != nil {
		return -C.int(errnoOf(err))
	}
	return 0
}

//export ns_couples
func ns_couples() (result C.int) {
	defer guard(0, &result)
	return C.int(couple.Count())
}
