"""
Blocks of a capture file in the format pcapng (draft-ietf-opsawg-pcapng): as bytes.

No library fits: python-pcapng and dpkt have had no release since 2022, pycapng (alpha, native
code) declares Ethernet whatever it writes, and scapy's license is not that of this project.
"""

from __future__ import annotations

import struct

#: Types of blocks.
_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_STATISTICS = 5
_PACKET = 6

#: By this a reader knows the byte order, which is this machine's.
_MAGIC = 0x1A2B3C4D

#: Of a section that ends where the file does.
_UNKNOWN_LENGTH = -1

#: Codes of options; what they mean depends on the block, but for the first two.
_END = struct.pack("=HH", 0, 0)
_COMMENT = 1
_SYSTEM, _APPLICATION = 3, 4
_NAME, _RESOLUTION = 2, 9
_RECEIVED, _DROPPED = 4, 5

#: Digits of a second in timestamps.
_NANOSECONDS = 9

#: Packets without a link-layer header (LINKTYPE_RAW), as a TUN device has them.
RAW = 101

#: Bytes of a packet at most: the largest that a device passes at once has 64 KiB, and Wireshark
#: takes no larger ones than this.
SNAP_LENGTH = 262144

#: Bytes of an option's text at most, as its length has 16 bits: more than anybody reads.
_TEXT_LIMIT = 4096

_HEAD = struct.Struct("=II")
_TAIL = struct.Struct("=I")
_OPTION = struct.Struct("=HH")
#: An enhanced packet block up to the packet.
_ENHANCED = struct.Struct("=IIIIIII")


def sectionHeader(system: str, application: str) -> bytes:
    """
    The block that a file begins with.

    @param system: the operating system.
    @param application: the program that writes the file.
    """
    return _block(
        _SECTION,
        struct.pack("=IHHq", _MAGIC, 1, 0, _UNKNOWN_LENGTH)
        + _text(_SYSTEM, system)
        + _text(_APPLICATION, application)
        + _END,
    )


def interfaceDescription(name: str) -> bytes:
    """The block about a TUN device; timestamps are in nanoseconds."""
    return _block(
        _INTERFACE,
        struct.pack("=HHI", RAW, 0, SNAP_LENGTH)
        + _text(_NAME, name)
        + _option(_RESOLUTION, bytes([_NANOSECONDS]))
        + _END,
    )


def enhancedPacket(nanoseconds: int, data: bytes, length: int, comment: str = "") -> bytes:
    """
    A packet of the device.

    @param nanoseconds: since 1970.
    @param data: from its IP header on, L{SNAP_LENGTH} bytes at most.
    @param length: how many bytes it had.
    @param comment: one line; empty for none.
    """
    options = _text(_COMMENT, comment) + _END if comment else b""
    padding = bytes(-len(data) % 4)
    total = _ENHANCED.size + len(data) + len(padding) + len(options) + _TAIL.size
    high, low = nanoseconds >> 32, nanoseconds & 0xFFFFFFFF
    head = _ENHANCED.pack(_PACKET, total, 0, high, low, len(data), length)
    return b"".join((head, data, padding, options, _TAIL.pack(total)))


def interfaceStatistics(nanoseconds: int, received: int, dropped: int) -> bytes:
    """
    What became of the device's packets, at the end of a file.

    @param nanoseconds: since 1970.
    @param received: how many the device had since the beginning.
    @param dropped: how many of them the kernel had no place for.
    """
    return _block(
        _STATISTICS,
        struct.pack("=III", 0, nanoseconds >> 32, nanoseconds & 0xFFFFFFFF)
        + _option(_RECEIVED, struct.pack("=Q", received))
        + _option(_DROPPED, struct.pack("=Q", dropped))
        + _END,
    )


def _block(kind: int, body: bytes) -> bytes:
    """C{body} is a multiple of four bytes."""
    total = _HEAD.size + len(body) + _TAIL.size
    return _HEAD.pack(kind, total) + body + _TAIL.pack(total)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode("utf-8", "replace")[:_TEXT_LIMIT])


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value + bytes(-len(value) % 4)
