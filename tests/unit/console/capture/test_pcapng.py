"""Tests of L{nanotun.console.capture.pcapng}: other programs read what it writes."""

from __future__ import annotations

import shutil
import struct
import subprocess

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.console.capture.pcapng import (
    RAW,
    SNAP_LENGTH,
    enhancedPacket,
    interfaceDescription,
    interfaceStatistics,
    sectionHeader,
)
from tests.unit.console.capture.made import APP4, APP6, FAR4, FAR6, THEN, ip, tcp, udp

SYSTEM, PROGRAM = "Linux 6.1", "nanotun 1"
COMMENT = "program curl (pid 17), to müller.example, rule #2, by office"

#: Of every length modulo four, to which blocks are filled up.
PACKETS = (
    ip(APP4, FAR4, 6, tcp(50000, 443, payload=b"x")),
    ip(APP6, FAR6, 17, udp(50000, 53, b"xx")),
    ip(FAR4, APP4, 6, tcp(443, 50000, payload=b"xxx")),
    ip(FAR6, APP6, 17, udp(53, 50000)),
)


class CaptureBlockTests(SynchronousTestCase):
    """The bytes."""

    def test_sizes(self) -> None:
        """Every block is a multiple of four bytes and says its size at both ends."""
        blocks = [sectionHeader(SYSTEM, PROGRAM), interfaceDescription("nano0")]
        for data in PACKETS:
            blocks += [enhancedPacket(THEN, data, len(data), each) for each in ("", COMMENT)]
        blocks.append(interfaceStatistics(THEN, 7, 2))
        for block in blocks:
            size = struct.pack("=I", len(block))
            self.assertEqual((len(block) % 4, block[4:8], block[-4:]), (0, size, size))

    def test_cut(self) -> None:
        """A packet that is not there as a whole says how long it was."""
        block = enhancedPacket(THEN, b"E" * 8, 1500)
        self.assertEqual(struct.unpack_from("=II", block, 20), (8, 1500))

    def test_longComment(self) -> None:
        """A comment that is too long for its field is cut."""
        for length in (4096, 4097, 1 << 17):
            block = enhancedPacket(THEN, b"", 0, "x" * length)
            self.assertEqual(struct.unpack_from("=HH", block, 28), (1, 4096))


class CaptureReaderTests(SynchronousTestCase):
    """Wireshark's programs."""

    def setUp(self) -> None:
        if shutil.which("tshark") is None or shutil.which("capinfos") is None:
            raise SkipTest("there is no tshark")
        self.path = self.mktemp()
        comments = (COMMENT, "", "", "second")
        with open(self.path, "wb") as file:
            file.write(sectionHeader(SYSTEM, PROGRAM) + interfaceDescription("nano0"))
            for number, (data, comment) in enumerate(zip(PACKETS, comments, strict=True)):
                file.write(enhancedPacket(THEN + number, data, len(data), comment))
            file.write(interfaceStatistics(THEN, 7, 2))

    def _said(self, *argv: str) -> str:
        return subprocess.run(argv, check=True, capture_output=True, encoding="utf-8").stdout

    def test_packets(self) -> None:
        """tshark reads each packet, its time to the nanosecond, and its comment."""
        fields = ("frame.time_epoch", "frame.len", "ip.dst", "ipv6.dst", "frame.comment")
        options = [word for field in fields for word in ("-e", field)]
        said = self._said("tshark", "-r", self.path, "-T", "fields", "-E", "separator=|", *options)
        lines = [line.split("|") for line in said.splitlines()]
        seconds = [f"1796000000.12345679{digit}" for digit in (0, 1, 2)]
        self.assertEqual([line[0] for line in lines], ["1796000000.123456789", *seconds])
        self.assertEqual([int(line[1]) for line in lines], [len(data) for data in PACKETS])
        self.assertEqual([line[2] or line[3] for line in lines], [FAR4, FAR6, APP4, APP6])
        self.assertEqual([line[4] for line in lines], [COMMENT, "", "", "second"])

    def test_about(self) -> None:
        """capinfos finds the file whole, with its program, its device and the statistics."""
        said = self._said("capinfos", self.path)
        for text in (
            "File encapsulation:  Raw IP",
            f"Capture application: {PROGRAM}",
            f"Capture oper-sys:    {SYSTEM}",
            "Name = nano0",
            "Time precision = nanoseconds (9)",
            f"Capture length = {SNAP_LENGTH}",
            "Number of packets = 4",
            "Number of stat entries = 1",
        ):
            self.assertIn(text, said)
        self.assertEqual(RAW, 101)
