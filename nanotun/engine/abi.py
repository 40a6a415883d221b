"""
The native library's C ABI, for ctypes: a repetition of C{netstack/netstack.h}.

Structures, constants and functions have the header's names, order and types;
a test compares the two.  Importing this module loads nothing, because Go does not survive
the fork with which twistd becomes a daemon.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Sequence
from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
)
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from nanotun.errors import EngineError
from nanotun.flow import Endpoint, Stats
from nanotun.linux.trust import othersMayWrite

NS_ABI_VERSION = 9

NS_STACK_GVISOR = 1
NS_STACK_SIMPLE = 2

NS_EVENT_TCP_REQUEST = 1
NS_EVENT_ABANDONED = 2
NS_EVENT_CLOSED = 3
NS_EVENT_DEVICE_RETURNED = 4
NS_EVENT_UDP_REQUEST = 5
NS_EVENT_ASSOCIATION_CLOSED = 6
NS_EVENT_DATAGRAMS = 7
NS_EVENT_ASSOCIATION_REFUSED = 8
NS_EVENT_NOT_HTTP = 9
NS_EVENT_CROWDED = 10
NS_EVENT_SNIFFED = 11
NS_EVENT_JOINED = 12
NS_EVENT_DIAL_ENDED = 13
NS_EVENT_DIAL_SILENT = 14
NS_EVENT_STOOD = 15
NS_EVENT_STANDING_ENDED = 16

NS_DIAL_HANDED = 1
NS_DIAL_FAILED = 2
NS_DIAL_LOST = 3
NS_DIAL_EXPIRED = 4
NS_DIAL_NO_SOCKET = 5
NS_DIAL_GENERAL = 6

NS_DIAL_CONNECTING = 65535

NS_FLOW_WAITING = 1
NS_FLOW_DIALLING = 2
NS_FLOW_OPEN = 3
NS_FLOW_HALF_CLOSED = 4

NS_FLAW_UNTRUSTED = 1
NS_FLAW_NO_TLS = 2
NS_FLAW_ENDED = 3

NS_TAIL_NONE = 0
NS_TAIL_SOCKS_ADDRESS = 1
NS_TAIL_HTTP_HEAD = 2

NS_CROWD_PROGRAM = 1
NS_CROWD_SOURCE = 2
NS_CROWD_MACHINE = 3
NS_CROWD_OTHERS = 4
NS_CROWD_HALF_OPEN = 5

NS_HTTP_NOT_HTTP = 1
NS_HTTP_UPGRADE = 2
NS_HTTP_PROXY_REQUEST = 3
NS_HTTP_OTHER_HOST = 4
NS_HTTP_LOGIN = 5
NS_HTTP_TOO_LONG = 6

NS_REFUSE_RESET = 1
NS_REFUSE_HOST_UNREACHABLE = 2
NS_REFUSE_NET_UNREACHABLE = 3
NS_REFUSE_PROHIBITED = 4
NS_REFUSE_PORT_UNREACHABLE = 5

NS_LEG_DIRECT = 1
NS_LEG_SOCKS5 = 2

NS_LEG_SHARED = 1

LIBRARY_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libnetstack.so")


#: PR_SET_TIMERSLACK of linux/prctl.h.
PR_SET_TIMERSLACK = 29

#: Nanoseconds that the timers of the library's threads may be late.  Go's
#: monitor thread sleeps for 20 us at a time while there is any work; with the
#: kernel's usual slack that took a third of the CPU time of many connections.
#: The library's own timers are 10 ms or more.
TIMER_SLACK = 500_000


class ns_config(ctypes.Structure):
    """The argument of C{ns_open}."""

    _fields_ = [
        ("size", c_uint32),
        ("tun_fd", c_int32),
        ("mtu", c_uint32),
        ("stack", c_uint32),
        ("vnet_header", c_uint32),
        ("pending_limit", c_uint32),
        ("flow_limit", c_uint32),
        ("half_open_limit", c_uint32),
        ("half_open_s", c_uint32),
        ("keepalive_s", c_uint32),
        ("half_closed_s", c_uint32),
        ("association_limit", c_uint32),
        ("datagram_flow_limit", c_uint32),
        ("udp_timeout_ms", c_uint32),
        ("gateway4", c_uint8 * 4),
        ("gateway6", c_uint8 * 16),
        ("kernel4", c_uint8 * 4),
        ("kernel6", c_uint8 * 16),
        ("device", c_uint32),
    ]


#: Bytes; the library refuses a configuration of another size.
CONFIG_SIZE = ctypes.sizeof(ns_config)


class ns_event(ctypes.Structure):
    """One event; read through L{EVENT}, which is faster than the attributes."""

    _fields_ = [
        ("flow", c_uint64),
        ("bytes_up", c_uint64),
        ("bytes_down", c_uint64),
        ("note", c_uint64),
        ("microseconds", c_uint64),
        ("kind", c_uint32),
        ("error", c_int32),
        ("source_port", c_uint16),
        ("destination_port", c_uint16),
        ("family", c_uint8),
        ("protocol", c_uint8),
        ("standing", c_uint8),
        ("reserved", c_uint8),
        ("source", c_uint8 * 16),
        ("destination", c_uint8 * 16),
    ]


#: L{ns_event} in one step, without C{reserved}.  Not wire format: host order.
EVENT = struct.Struct("=5QIiHHBBBx16s16s")

#: The place of C{kind} in that.
EVENT_KIND = 5


class ns_flow(ctypes.Structure):
    """A flow as it is now; read through L{FLOW}."""

    _fields_ = [
        ("flow", c_uint64),
        ("note", c_uint64),
        ("bytes_up", c_uint64),
        ("bytes_down", c_uint64),
        ("age_us", c_uint64),
        ("idle_us", c_uint64),
        ("state", c_uint32),
        ("source_port", c_uint16),
        ("destination_port", c_uint16),
        ("family", c_uint8),
        ("protocol", c_uint8),
        ("reserved", c_uint8 * 6),
        ("source", c_uint8 * 16),
        ("destination", c_uint8 * 16),
    ]


#: L{ns_flow} in one step, without C{reserved}.
FLOW = struct.Struct("=6QIHHBB6x16s16s")


class ns_datagram(ctypes.Structure):
    """The header of each datagram; read through L{DATAGRAM}."""

    _fields_ = [
        ("length", c_uint32),
        ("source_port", c_uint16),
        ("destination_port", c_uint16),
        ("family", c_uint8),
        ("reserved", c_uint8 * 3),
        ("source", c_uint8 * 16),
        ("destination", c_uint8 * 16),
    ]


#: L{ns_datagram} in one step, without C{reserved}.
DATAGRAM = struct.Struct("=IHHB3x16s16s")


class ns_dialled(ctypes.Structure):
    """How a dial ended; read through L{DIALLED}."""

    _fields_ = [
        ("kind", c_uint32),
        ("error", c_int32),
        ("step", c_uint32),
        ("address", c_uint32),
        ("fd", c_int32),
        ("length", c_uint32),
        ("microseconds", c_uint64),
    ]


#: L{ns_dialled} in one step.
DIALLED = struct.Struct("=IiIIiIQ")


class ns_stood(ctypes.Structure):
    """What was counted for a standing decision; read through L{STOOD}."""

    _fields_ = [
        ("number", c_uint64),
        ("decided", c_uint64),
        ("joined", c_uint64),
        ("microseconds", c_uint64),
        ("abandoned", c_uint64),
        ("address", c_uint32),
        ("over", c_uint32),
    ]


#: L{ns_stood} in one step.
STOOD = struct.Struct("=QQQQQII")


class ns_stats(ctypes.Structure):
    """The counters as the library writes them."""

    _fields_ = [(name, c_uint64) for name in Stats._fields]


#: Name, result and arguments of every function.
FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("ns_abi_version", c_uint32, ()),
    ("ns_probe", c_int, (c_int, c_uint32, c_uint32, c_char_p, POINTER(c_uint8), c_uint32)),
    ("ns_open", c_int64, (POINTER(ns_config),)),
    ("ns_event_fd", c_int, (c_int64,)),
    ("ns_pump", c_int, (c_int64, c_uint32)),
    ("ns_lend", c_int, (c_int64,)),
    ("ns_drain", c_int, (c_int64, POINTER(ns_event), c_uint32)),
    # bytes are passed as c_void_p without a copy.
    (
        "ns_join",
        c_int,
        (c_int64, c_uint64, c_int, c_void_p, c_size_t, c_char_p, c_char_p, c_uint64),
    ),
    ("ns_sniff", c_int, (c_int64, c_uint64)),
    ("ns_name", c_int, (c_int64, c_uint64, c_void_p, POINTER(c_uint32))),
    ("ns_end", c_int, (c_int64, POINTER(c_uint64), c_size_t)),
    ("ns_flows", c_int, (c_int64, c_uint64, POINTER(ns_flow), c_uint32)),
    ("ns_follow", c_int, (c_int64, c_uint32)),
    ("ns_course", c_int, (c_int64, c_void_p, c_size_t)),
    ("ns_uncourse", c_int, (c_int64, c_uint32)),
    (
        "ns_dial",
        c_int,
        (c_int64, c_uint64, c_uint32, c_int, c_uint32, c_void_p, c_size_t, c_uint64),
    ),
    ("ns_undial", c_int, (c_int64, c_uint64)),
    ("ns_dialled", c_int, (c_int64, c_uint64, POINTER(ns_dialled), c_void_p, c_size_t)),
    (
        "ns_stand",
        c_int64,
        (c_int64, POINTER(ns_datagram), c_uint32, c_uint32, c_void_p, c_size_t, c_uint32, c_uint64),
    ),
    ("ns_withdraw", c_int, (c_int64,)),
    ("ns_stood", c_int, (c_int64, POINTER(ns_stood), c_uint32)),
    ("ns_tls", c_int, (c_void_p, c_size_t, c_uint32, c_char_p, c_char_p)),
    ("ns_secure", c_int, (c_int, c_uint32, c_void_p, c_size_t)),
    ("ns_lent_socket", c_int, (c_int,)),
    ("ns_couple", c_int, (c_int, c_int)),
    ("ns_couples", c_int, ()),
    (
        "ns_rehearse",
        c_int,
        (c_void_p, c_size_t, c_uint32, *(c_void_p, c_size_t) * 3, POINTER(c_uint32)),
    ),
    ("ns_refuse", c_int, (c_int64, c_uint64, c_uint32)),
    ("ns_drop", c_int, (c_int64, c_uint64)),
    ("ns_associate", c_int64, (c_int64, c_int, c_uint32, c_uint32, c_void_p, c_size_t)),
    ("ns_attach", c_int, (c_int64, c_uint64, c_int64, POINTER(ns_datagram), c_uint64)),
    ("ns_dissociate", c_int, (c_int64, c_int64)),
    ("ns_serve", c_int, (c_int64, c_uint64)),
    ("ns_listen", c_int, (c_int64, c_uint32, c_uint32)),
    ("ns_receive", c_int, (c_int64, c_void_p, c_size_t)),
    ("ns_send", c_int, (c_int64, c_void_p, c_size_t)),
    ("ns_quiesce", c_int, (c_int64,)),
    ("ns_stats", c_int, (c_int64, POINTER(ns_stats))),
    ("ns_close", c_int, (c_int64,)),
)


def check(result: int, call: str) -> int:
    """
    Return a result, or raise the error that it stands for.

    @param result: 0 or more, or -errno.
    @param call: the function's name, for the error's text.
    @raise OSError: C{result} is negative.
    """
    if result < 0:
        raise OSError(-result, f"{call}: {os.strerror(-result)}")
    return result


class EventBuffer:
    """
    An array of events that Python owns and the library fills.

    @ivar array: the argument of C{ns_drain}.
    @ivar capacity: how many events it holds.
    """

    __slots__ = ("_view", "array", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.array = (ns_event * capacity)()
        self._view = memoryview(self.array).cast("B")

    def unpack(self, count: int) -> list[tuple[Any, ...]]:
        """
        The first C{count} events, each as the fields of L{EVENT}.  They are copied, because
        the array may be filled again while its events are handled.
        """
        return list(EVENT.iter_unpack(self._view[: count * EVENT.size]))


class NativeLibrary:
    """
    The loaded library: an attribute for each of L{FUNCTIONS}.

    @param dll: has the functions: a L{ctypes.CDLL}, or a test's stand-in.
    @raise EngineError: the library is of another version, or is another library.
    """

    ns_abi_version: Callable[[], int]
    ns_probe: Callable[..., int]
    ns_open: Callable[..., int]
    ns_event_fd: Callable[[int], int]
    ns_pump: Callable[[int, int], int]
    ns_lend: Callable[[int], int]
    ns_drain: Callable[[int, Any, int], int]
    ns_join: Callable[[int, int, int, bytes, int, bytes | None, bytes | None, int], int]
    ns_sniff: Callable[[int, int], int]
    ns_name: Callable[[int, int, Any, Any], int]
    ns_end: Callable[[int, Any, int], int]
    ns_flows: Callable[[int, int, Any, int], int]
    ns_follow: Callable[[int, int], int]
    ns_course: Callable[[int, bytes, int], int]
    ns_uncourse: Callable[[int, int], int]
    ns_dial: Callable[[int, int, int, int, int, bytes, int, int], int]
    ns_undial: Callable[[int, int], int]
    ns_dialled: Callable[[int, int, Any, Any, int], int]
    ns_stand: Callable[[int, Any, int, int, bytes, int, int, int], int]
    ns_withdraw: Callable[[int], int]
    ns_stood: Callable[[int, Any, int], int]
    ns_tls: Callable[[bytes, int, int, bytes, bytes], int]
    ns_secure: Callable[[int, int, bytes, int], int]
    ns_lent_socket: Callable[[int], int]
    ns_couple: Callable[[int, int], int]
    ns_couples: Callable[[], int]
    ns_rehearse: Callable[[bytes, int, int, bytes, int, bytes, int, Any, int, Any], int]
    ns_refuse: Callable[[int, int, int], int]
    ns_drop: Callable[[int, int], int]
    ns_associate: Callable[[int, int, int, int, bytes, int], int]
    ns_attach: Callable[[int, int, int, Any, int], int]
    ns_dissociate: Callable[[int, int], int]
    ns_serve: Callable[[int, int], int]
    ns_listen: Callable[[int, int, int], int]
    ns_receive: Callable[[int, Any, int], int]
    ns_send: Callable[[int, bytes, int], int]
    ns_quiesce: Callable[[int], int]
    ns_stats: Callable[[int, Any], int]
    ns_close: Callable[[int], int]

    def __init__(self, dll: Any, path: str = LIBRARY_PATH) -> None:
        for name, result, arguments in FUNCTIONS:
            try:
                function = getattr(dll, name)
            except AttributeError:
                raise EngineError(
                    f"the native library {path} has no {name}; run `make build` again."
                ) from None
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)
            if name == "ns_abi_version" and (version := function()) != NS_ABI_VERSION:
                raise EngineError(
                    f"the native library {path} has interface version {version}, and this "
                    f"nanotun needs {NS_ABI_VERSION}; run `make build` again."
                )

    @classmethod
    def load(cls, path: str = LIBRARY_PATH) -> NativeLibrary:
        """
        Load the library into this process, until the process ends.

        @raise EngineError: it is missing, writable by others, or not loadable.
        """
        try:
            os.stat(path)
            # Users who can write it could run code as root.
            unsafe = os.geteuid() == 0 and othersMayWrite(path)
        except OSError:
            raise EngineError(
                f"the native library {path} is not built; run `make build`."
            ) from None
        if unsafe:
            raise EngineError(
                f"the native library {path} can be written by others than its owner, so root "
                f"does not load it; run `chmod go-w {path}`."
            )
        # A thread inherits the slack of the thread that makes it, and Go makes its first
        # thread while it is loaded.  0 gives this thread its own slack back.
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_TIMERSLACK, c_ulong(TIMER_SLACK))
        try:
            dll = ctypes.CDLL(path)
        except OSError as error:
            raise EngineError(
                f"the native library {path} cannot be loaded ({error}); run `make build` again."
            ) from None
        finally:
            prctl(PR_SET_TIMERSLACK, c_ulong(0))
        return cls(dll, path)


def bytes4(packed: bytes) -> Any:
    """A C{uint8_t[4]}, from an address in network order."""
    return (c_uint8 * 4)(*packed)


def bytes16(packed: bytes) -> Any:
    """A C{uint8_t[16]}, from an address in network order."""
    return (c_uint8 * 16)(*packed)


def destinationOf(endpoint: Endpoint) -> ns_datagram:
    """The form in which the library takes a literal address and a port."""
    six = ":" in endpoint.host
    address = inet_pton(AF_INET6 if six else AF_INET, endpoint.host).ljust(16, b"\0")
    header = DATAGRAM.pack(0, 0, endpoint.port, 6 if six else 4, bytes(16), address)
    return ns_datagram.from_buffer_copy(header)


def idArray(ids: Sequence[int]) -> Any:
    """A C{uint64_t[]} of flows' ids."""
    return (c_uint64 * len(ids))(*ids)


def byteBuffer(size: int) -> Any:
    """Memory for the library to fill and a L{memoryview} to read."""
    return ctypes.create_string_buffer(size)


def readStats(library: NativeLibrary, handle: int) -> Stats:
    """
    All counters.

    @raise OSError: there is no such stack.
    """
    raw = ns_stats()
    check(library.ns_stats(handle, raw), "ns_stats")
    return Stats(*(getattr(raw, name) for name in Stats._fields))
