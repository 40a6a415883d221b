"""Tests of the file, the questions, the command line and the sentences of C{nanotun capture}."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.capture.asking import PAGE, DaemonFlows
from nanotun.console.capture.capture import Captured, Limits
from nanotun.console.capture.file import CaptureFile
from nanotun.console.capture.options import CaptureOptions
from nanotun.console.capture.text import beginning, ending
from nanotun.errors import NanotunError, RunningError


class CaptureFileTests(SynchronousTestCase):
    """L{CaptureFile}."""

    def setUp(self) -> None:
        self.path = self.mktemp()

    def open(self, force: bool = False) -> CaptureFile:
        """The file."""
        file = CaptureFile(self.path, force)
        self.addCleanup(file.close)
        return file

    def read(self) -> bytes:
        """What is in it."""
        with open(self.path, "rb") as file:
            return file.read()

    def test_atOnce(self) -> None:
        """What is written is in the file at once, which only its owner can read."""
        file = self.open()
        file.write(b"abc")
        file.write(b"de")
        self.assertEqual((self.read(), file.size, file.name), (b"abcde", 5, self.path))
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_exists(self) -> None:
        """A file that exists is kept, unless --force says so."""
        self.open().write(b"old data")
        error = self.assertRaises(NanotunError, CaptureFile, self.path, False)
        self.assertIn(f"{self.path} exists;", str(error))
        self.assertEqual(self.read(), b"old data")
        self.open(force=True).write(b"new")
        self.assertEqual(self.read(), b"new")

    def test_link(self) -> None:
        """A link is not followed: somebody else may have put it there."""
        target = self.mktemp()
        with open(target, "w") as file:
            file.write("precious")
        os.symlink(os.path.abspath(target), self.path)
        for force in (False, True):
            self.assertRaises(NanotunError, CaptureFile, self.path, force)
        with open(target) as file:
            self.assertEqual(file.read(), "precious")

    def test_noPlace(self) -> None:
        """A file that cannot be made is one sentence."""
        path = os.path.join(self.mktemp(), "x.pcapng")
        error = self.assertRaises(NanotunError, CaptureFile, path, False)
        self.assertEqual(str(error), f"{path} cannot be written (No such file or directory).")

    def test_full(self) -> None:
        """Of blocks that find no place nothing is left in the file."""
        file = self.open()
        file.write(b"whole block")
        real, room = os.write, [4]

        def write(fd: int, data: memoryview) -> int:
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, data[: room.pop()])

        with mock.patch("os.write", write):
            error = self.assertRaises(NanotunError, file.write, b"another one")
        self.assertIn("cannot be written any more (No space left on device).", str(error))
        self.assertEqual((self.read(), file.size), (b"whole block", 11))

    def test_pieces(self) -> None:
        """A pipe that takes less at a time gets it all."""
        file = self.open()
        real = os.write
        with mock.patch("os.write", lambda fd, data: real(fd, data[:2])):
            file.write(b"abcde")
        self.assertEqual((self.read(), file.size), (b"abcde", 5))

    def test_standardOutput(self) -> None:
        """C{-} is standard output, which stays open, and may be no terminal."""
        with open(self.path, "wb", buffering=0) as raw, io.TextIOWrapper(raw) as stream:
            self.patch(sys, "stdout", stream)
            file = CaptureFile("-", False)
            file.write(b"abc")
            file.close()
            os.fstat(stream.fileno())
            with mock.patch("os.isatty", lambda fd: True):
                error = self.assertRaises(NanotunError, CaptureFile, "-", False)
        self.assertEqual((self.read(), file.name), (b"abc", "standard output"))
        self.assertIn("terminal", str(error))


class DaemonFlowsTests(SynchronousTestCase):
    """L{DaemonFlows}."""

    def setUp(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.answers: list[Any] = []

    @contextlib.contextmanager
    def connect(self) -> Iterator[DaemonFlowsTests]:
        """A connection."""
        yield self

    def ask(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """See L{Client.ask}."""
        self.asked.append((name, arguments))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def test_pages(self) -> None:
        """It asks for all pages, of the flows that are open and of those that have ended."""
        self.answers = [
            {"flows": [], "next": 3},
            {"flows": ["a", "b"], "next": 9},
            {"flows": ["c"], "next": None},
            {"flows": ["d"], "next": 4},
            {"flows": [], "next": 4},
        ]
        flows = DaemonFlows(self.connect)
        self.assertEqual(flows(7), ["a", "b", "c", "d"])
        expected = [
            ("ended", {}),
            ("flows", {"after": 7, "limit": PAGE}),
            ("flows", {"after": 9, "limit": PAGE}),
            ("ended", {"after": 3}),
            ("ended", {"after": 4}),
        ]
        self.assertEqual(self.asked, expected)
        self.answers = [{"flows": [], "next": None}, {"flows": [], "next": 4}]
        self.assertEqual(flows(9), [])
        self.assertEqual(self.asked[5:], [("flows", {"after": 9, "limit": PAGE}), expected[4]])

    def test_silent(self) -> None:
        """A daemon that ceases to answer is asked no more; one that never did is an error."""
        flows = DaemonFlows(self.connect)
        nothing: dict[str, Any] = {"flows": [], "next": None}
        self.answers = [RunningError("no"), {**nothing, "next": 0}, nothing, nothing]
        self.answers.append(RunningError("no"))
        self.assertRaises(RunningError, flows, 0)
        for silent in (False, True, True):
            self.assertEqual((flows(0), flows.silent), ([], silent))
        self.assertEqual((len(self.asked), self.answers), (5, []))


class CaptureOptionsTests(SynchronousTestCase):
    """L{CaptureOptions}."""

    def parse(self, *words: str) -> CaptureOptions:
        """The command line."""
        options = CaptureOptions()
        options.parseOptions(["-w", "x.pcapng", *words])
        return options

    def test_limits(self) -> None:
        """A capture is limited always, by default to 100 MiB and ten minutes."""
        self.assertEqual(self.parse().limits, Limits(100 << 20, 600.0, 0))
        given = self.parse("--limit", "2MiB", "--time", "1m30s", "--count", "7")
        self.assertEqual(given.limits, Limits(2 << 20, 90.0, 7))

    def test_filters(self) -> None:
        """Without filters all packets are wanted, with some the flows that meet them."""
        self.assertIs(self.parse().wantedOnly(), None)
        self.assertIsNot(self.parse("--process", "curl").wantedOnly(), None)

    def test_wrong(self) -> None:
        """A wrong command line is one sentence that says what is right."""
        for words, sentence in (
            (
                ("--limit", "5"),
                "--limit must be a size from 64KiB to 1TiB, such as 100MiB, not '5'",
            ),
            (("--time", "5"), "--time must be a duration from 1s to 168h, such as 30s, 10m or 2h"),
            (("--count", "0"), "--count must be a whole number of packets from 1 to"),
            (("--count", "x"), "--count must be a whole number of packets from 1 to"),
            (("--protocol", "icmp"), "--protocol must be tcp or udp, not 'icmp'"),
            (("more",), "there is no argument 'more'"),
        ):
            error = self.assertRaises(UsageError, self.parse, *words)
            self.assertIn(sentence, str(error))
        error = self.assertRaises(UsageError, CaptureOptions().parseOptions, [])
        self.assertEqual(str(error), "say which file to write, with -w FILE.pcapng or -w -")


class CaptureTextTests(SynchronousTestCase):
    """The sentences."""

    def test_beginning(self) -> None:
        """It says what ends it."""
        self.assertEqual(
            beginning("nano0", Limits(100 << 20, 600, 0)),
            "Capturing the packets of nano0; Ctrl-C ends it, or 10 min 0 s or 100 MiB.",
        )
        self.assertIn("or 1 min 0 s, 7 packets or 64.0 KiB.", beginning("n", Limits(65536, 60, 7)))

    def test_ending(self) -> None:
        """It says why it ended, what is in the file, and what is not."""
        lines = list(ending(Captured("Why.", 2, 1, 2048, 0, 0), "x", False))
        self.assertEqual(
            lines, ["Why.", "x: 2 packets of 1 flow, 2.0 KiB.", "The kernel dropped none."]
        )
        lines = list(ending(Captured("Why.", 1, 0, 99, 1, 3), "x", True))
        self.assertEqual(
            lines[1:],
            [
                "The daemon ceased to answer, so comments say less of the last flows.",
                "x: 1 packet of 0 flows, 99 B.",
                "The filters left out 1 packet.",
                "The kernel had no place for 3 more packets.",
            ],
        )
