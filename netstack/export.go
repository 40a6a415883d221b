// Package main is the C ABI of netstack.h, and nothing else.
//
// Every function recovers from panics. No other package uses cgo.
package main

/*
#include <errno.h>
#include <stdlib.h>
#include "netstack.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"

	"nanotun/netstack/internal/datagram"
	"nanotun/netstack/internal/dial"
	"nanotun/netstack/internal/engine"
	"nanotun/netstack/internal/events"
	"nanotun/netstack/internal/link"
	"nanotun/netstack/internal/listing"
	"nanotun/netstack/internal/sniff"
)

func main() {}

func init() {
	// gVisor's own log lines would go to the daemon's stderr, one for each
	// odd packet; the counters say the same.
	log.SetLevel(log.Warning)
	log.SetTarget(quiet{})
}

type quiet struct{}

func (quiet) Emit(int, log.Level, time.Time, string, ...any) {}

var handles = struct {
	sync.RWMutex
	engines map[int64]*engine.Engine
	last    int64
}{engines: make(map[int64]*engine.Engine)}

func lookup(handle C.int64_t) *engine.Engine {
	handles.RLock()
	defer handles.RUnlock()
	return handles.engines[int64(handle)]
}

func forget(handle C.int64_t) {
	handles.Lock()
	defer handles.Unlock()
	delete(handles.engines, int64(handle))
}

// guard turns a panic into an error of the call. The handle becomes invalid, because
// the engine may hold a lock that the next call would wait for forever.
func guard[Result C.int | C.int64_t](handle C.int64_t, result *Result) {
	if r := recover(); r != nil {
		report(r)
		forget(handle)
		*result = -C.ENOTRECOVERABLE
	}
}

func report(r any) {
	fmt.Fprintf(os.Stderr, "nanotun: the native stack panicked, please report this: %v\n%s", r, debug.Stack())
}

// call runs f on the engine of the handle; f's errno becomes negative.
func call(handle C.int64_t, f func(*engine.Engine) (int, error)) (result C.int) {
	defer guard(handle, &result)
	e := lookup(handle)
	if e == nil {
		return -C.EINVAL
	}
	n, err := f(e)
	if err != nil {
		return -C.int(errnoOf(err))
	}
	return C.int(n)
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return unix.EIO
}

//export ns_abi_version
func ns_abi_version() C.uint32_t { return C.NS_ABI_VERSION }

//export ns_probe
func ns_probe(tunFD C.int, vnetHeader, mtu C.uint32_t, device *C.char, gateway4 *C.uint8_t, timeout C.uint32_t) (result C.int) {
	defer guard(0, &result)
	works := engine.Probe(engine.ProbeConfig{
		TunFD:        int(tunFD),
		VirtioHeader: vnetHeader != 0,
		MTU:          uint32(mtu),
		Device:       C.GoString(device),
		Gateway:      address(gateway4, 4),
		Timeout:      time.Duration(timeout) * time.Millisecond,
	})
	if works {
		return 1
	}
	return 0
}

//export ns_open
func ns_open(config *C.struct_ns_config) (handle C.int64_t) {
	defer guard(0, &handle)
	if config == nil || uintptr(config.size) != unsafe.Sizeof(*config) {
		return -C.EINVAL
	}
	if config.flow_limit == 0 || config.pending_limit == 0 || config.association_limit == 0 || config.datagram_flow_limit == 0 {
		return -C.EINVAL
	}
	if config.half_open_limit == 0 || config.half_open_s == 0 {
		return -C.EINVAL
	}
	mode := engine.Mode(config.stack)
	if mode != engine.Full && mode != engine.Simple {
		return -C.EINVAL
	}
	e, err := engine.Open(engine.Config{
		TunFD:         int(config.tun_fd),
		MTU:           uint32(config.mtu),
		Mode:          mode,
		VirtioHeader:  config.vnet_header != 0,
		PendingLimit:  int(config.pending_limit),
		FlowLimit:     int(config.flow_limit),
		HalfOpenLimit: int(config.half_open_limit),
		HalfOpen:      time.Duration(config.half_open_s) * time.Second,
		KeepAlive:     time.Duration(config.keepalive_s) * time.Second,
		HalfClosed:    time.Duration(config.half_closed_s) * time.Second,
		Associations:  int(config.association_limit),
		DatagramFlows: int(config.datagram_flow_limit),
		UDPTimeout:    time.Duration(config.udp_timeout_ms) * time.Millisecond,
		Gateway4:      address(&config.gateway4[0], 4),
		Gateway6:      address(&config.gateway6[0], 16),
		Kernel4:       address(&config.kernel4[0], 4),
		Kernel6:       address(&config.kernel6[0], 16),
		Interface:     uint32(config.device),
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "nanotun: %s\n", err)
		return -C.int64_t(errnoOf(err))
	}
	handles.Lock()
	defer handles.Unlock()
	handles.last++
	handles.engines[handles.last] = e
	return C.int64_t(handles.last)
}

func address(bytes *C.uint8_t, size int) netip.Addr {
	a, _ := netip.AddrFromSlice(unsafe.Slice((*byte)(unsafe.Pointer(bytes)), size))
	return a
}

//export ns_event_fd
func ns_event_fd(handle C.int64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return e.EventFD(), nil })
}

//export ns_pump
func ns_pump(handle C.int64_t, budget C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		n, errno := e.Pump(int(budget))
		if errno != 0 && n == 0 {
			return 0, errno
		}
		return n, nil
	})
}

//export ns_lend
func ns_lend(handle C.int64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return 0, e.Lend() })
}

//export ns_drain
func ns_drain(handle C.int64_t, array *C.struct_ns_event, capacity C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		out := unsafe.Slice(array, int(capacity))
		i := 0
		n := e.Drain(int(capacity), func(event *events.Event) {
			c := &out[i]
			i++
			c.flow = C.uint64_t(event.Flow)
			c.bytes_up = C.uint64_t(event.BytesUp)
			c.bytes_down = C.uint64_t(event.BytesDown)
			c.note = C.uint64_t(event.Note)
			c.microseconds = C.uint64_t(event.Microseconds)
			c.kind = C.uint32_t(event.Kind)
			c.error = C.int32_t(event.Error)
			c.source_port = C.uint16_t(event.SourcePort)
			c.destination_port = C.uint16_t(event.DestPort)
			c.family = C.uint8_t(event.Family)
			c.protocol = C.uint8_t(event.Protocol)
			c.standing = 0
			if event.Standing {
				c.standing = 1
			}
			c.source = *(*[16]C.uint8_t)(unsafe.Pointer(&event.Source))
			c.destination = *(*[16]C.uint8_t)(unsafe.Pointer(&event.Destination))
		})
		return n, nil
	})
}

//export ns_join
func ns_join(handle C.int64_t, flow C.uint64_t, fd C.int, leftover unsafe.Pointer, length C.size_t, authority, authorization *C.char, note C.uint64_t) (result C.int) {
	defer guard(handle, &result)
	e := lookup(handle)
	if e == nil {
		_ = unix.Close(int(fd))
		return -C.EINVAL
	}
	var first []byte
	if length > 0 {
		first = C.GoBytes(leftover, C.int(length))
	}
	var err error
	if authority != nil {
		err = e.JoinHTTP(uint64(flow), int(fd), first, uint64(note), C.GoString(authority), C.GoString(authorization))
	} else {
		err = e.Join(uint64(flow), int(fd), first, uint64(note))
	}
	if err != nil {
		return -C.int(errnoOf(err))
	}
	return 0
}

//export ns_sniff
func ns_sniff(handle C.int64_t, flow C.uint64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		ready, err := e.Sniff(uint64(flow))
		if ready {
			return 1, nil
		}
		return 0, err
	})
}

//export ns_name
func ns_name(handle C.int64_t, flow C.uint64_t, buffer unsafe.Pointer, outer *C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		found, err := e.Name(uint64(flow))
		*outer = 0
		if found.Outer {
			*outer = 1
		}
		return copy(unsafe.Slice((*byte)(buffer), sniff.MaxName), found.Name), err
	})
}

//export ns_end
func ns_end(handle C.int64_t, flows *C.uint64_t, count C.size_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		return e.End(unsafe.Slice((*uint64)(unsafe.Pointer(flows)), int(count))), nil
	})
}

//export ns_flows
func ns_flows(handle C.int64_t, after C.uint64_t, array *C.struct_ns_flow, capacity C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		// The structs agree field by field.
		into := unsafe.Slice((*listing.Flow)(unsafe.Pointer(array)), int(capacity))
		return copy(into, e.Flows(uint64(after), int(capacity))), nil
	})
}

// Two structs of different sizes do not compile.
var _ = [1]struct{}{}[unsafe.Sizeof(listing.Flow{})-unsafe.Sizeof(C.struct_ns_flow{})]

//export ns_follow
func ns_follow(handle C.int64_t, on C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		e.Follow(on != 0)
		return 0, nil
	})
}

//export ns_course
func ns_course(handle C.int64_t, blob unsafe.Pointer, length C.size_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		return e.Course(unsafe.Slice((*byte)(blob), int(length)))
	})
}

//export ns_uncourse
func ns_uncourse(handle C.int64_t, course C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return 0, e.Uncourse(uint32(course)) })
}

//export ns_dial
func ns_dial(handle C.int64_t, flow C.uint64_t, course C.uint32_t, fd C.int, first C.uint32_t, request unsafe.Pointer, length C.size_t, note C.uint64_t) (result C.int) {
	defer guard(handle, &result)
	e := lookup(handle)
	if e == nil {
		if fd >= 0 {
			_ = unix.Close(int(fd))
		}
		return -C.EINVAL
	}
	if err := e.Dial(uint64(flow), uint32(course), int(fd), int(first), C.GoBytes(request, C.int(length)), uint64(note)); err != nil {
		return -C.int(errnoOf(err))
	}
	return 0
}

//export ns_undial
func ns_undial(handle C.int64_t, flow C.uint64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return 0, e.Undial(uint64(flow)) })
}

//export ns_dialled
func ns_dialled(handle C.int64_t, flow C.uint64_t, end *C.struct_ns_dialled, buffer unsafe.Pointer, capacity C.size_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		result, err := e.Dialled(uint64(flow))
		if err != nil {
			return 0, err
		}
		end.kind = C.uint32_t(result.Kind)
		end.error = C.int32_t(result.Error)
		end.step = C.uint32_t(result.Step)
		if result.Step == dial.Connecting {
			end.step = C.NS_DIAL_CONNECTING
		}
		end.address = C.uint32_t(result.Address)
		end.fd = C.int32_t(result.FD)
		end.length = C.uint32_t(copy(unsafe.Slice((*byte)(buffer), int(capacity)), result.Received))
		end.microseconds = C.uint64_t(result.Took.Microseconds())
		return 0, nil
	})
}

//export ns_stand
func ns_stand(handle C.int64_t, destination *C.struct_ns_datagram, ours, course C.uint32_t, request unsafe.Pointer, length C.size_t, milliseconds C.uint32_t, note C.uint64_t) (number C.int64_t) {
	defer guard(handle, &number)
	e := lookup(handle)
	if e == nil || destination.family != 4 && destination.family != 6 {
		return -C.EINVAL
	}
	n, err := e.Stand(*(*[16]byte)(unsafe.Pointer(&destination.destination)), uint16(destination.destination_port),
		destination.family == 6, ours != 0, uint32(course), C.GoBytes(request, C.int(length)),
		time.Duration(milliseconds)*time.Millisecond, uint64(note))
	if err != nil {
		return -C.int64_t(errnoOf(err))
	}
	return C.int64_t(n)
}

//export ns_withdraw
func ns_withdraw(handle C.int64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		e.Withdraw()
		return 0, nil
	})
}

//export ns_stood
func ns_stood(handle C.int64_t, array *C.struct_ns_stood, capacity C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		// The structs agree field by field.
		return e.Stood(unsafe.Slice((*engine.Stood)(unsafe.Pointer(array)), int(capacity))), nil
	})
}

//export ns_rehearse
func ns_rehearse(blob unsafe.Pointer, length C.size_t, first C.uint32_t, request unsafe.Pointer, requestLength C.size_t, received unsafe.Pointer, receivedLength C.size_t, sent unsafe.Pointer, capacity C.size_t, used *C.uint32_t) (result C.int) {
	defer guard(0, &result)
	course, err := dial.Parse(unsafe.Slice((*byte)(blob), int(length)))
	if err != nil || !course.Takes(int(first)) {
		return -C.EINVAL
	}
	state, out, end := dial.Rehearse(course, int(first), C.GoBytes(request, C.int(requestLength)), C.GoBytes(received, C.int(receivedLength)))
	copy(unsafe.Slice((*byte)(sent), int(capacity)), out)
	*used = C.uint32_t(end)
	return C.int(int(state) | len(out)<<8)
}

//export ns_refuse
func ns_refuse(handle C.int64_t, flow C.uint64_t, reason C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		return 0, e.Refuse(uint64(flow), engine.Refusal(reason))
	})
}

//export ns_drop
func ns_drop(handle C.int64_t, flow C.uint64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return 0, e.Drop(uint64(flow)) })
}

//export ns_associate
func ns_associate(handle C.int64_t, fd C.int, leg, flags C.uint32_t, name unsafe.Pointer, length C.size_t) (result C.int64_t) {
	defer guard(handle, &result)
	e := lookup(handle)
	if e == nil {
		_ = unix.Close(int(fd))
		return -C.EINVAL
	}
	host := ""
	if length > 0 {
		host = C.GoStringN((*C.char)(name), C.int(length))
	}
	id, err := e.Datagrams().Associate(int(fd), datagram.Leg(leg), flags&C.NS_LEG_SHARED != 0, host)
	if err != nil {
		return -C.int64_t(errnoOf(err))
	}
	return C.int64_t(id)
}

//export ns_attach
func ns_attach(handle C.int64_t, flow C.uint64_t, association C.int64_t, to *C.struct_ns_datagram, note C.uint64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		var end *link.End
		if to != nil {
			if to.family != 4 && to.family != 6 {
				return 0, unix.EINVAL
			}
			end = &link.End{
				Host: *(*[16]byte)(unsafe.Pointer(&to.destination)),
				Port: uint16(to.destination_port), Family: uint16(to.family),
			}
		}
		return 0, e.Datagrams().Attach(uint64(flow), uint64(association), end, uint64(note))
	})
}

//export ns_dissociate
func ns_dissociate(handle C.int64_t, association C.int64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		e.Datagrams().Dissociate(uint64(association))
		return 0, nil
	})
}

//export ns_serve
func ns_serve(handle C.int64_t, flow C.uint64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return 0, e.ServeDatagrams(uint64(flow)) })
}

//export ns_listen
func ns_listen(handle C.int64_t, protocol, port C.uint32_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return 0, e.Listen(uint32(protocol), uint32(port)) })
}

//export ns_receive
func ns_receive(handle C.int64_t, buffer unsafe.Pointer, capacity C.size_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		return e.Datagrams().Services.Receive(unsafe.Slice((*byte)(buffer), int(capacity))), nil
	})
}

//export ns_send
func ns_send(handle C.int64_t, buffer unsafe.Pointer, length C.size_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		return e.Datagrams().Send(unsafe.Slice((*byte)(buffer), int(length)))
	})
}

//export ns_quiesce
func ns_quiesce(handle C.int64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) { return e.Quiesce(), nil })
}

//export ns_stats
func ns_stats(handle C.int64_t, stats *C.struct_ns_stats) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		// The structs agree field by field: a test compares them.
		*(*engine.Stats)(unsafe.Pointer(stats)) = e.Stats()
		return 0, nil
	})
}

//export ns_close
func ns_close(handle C.int64_t) C.int {
	return call(handle, func(e *engine.Engine) (int, error) {
		forget(handle)
		e.Close()
		return 0, nil
	})
}
