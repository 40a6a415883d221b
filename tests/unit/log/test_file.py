"""Tests of L{nanotun.log.file}."""

from __future__ import annotations

import errno
import os
import stat
from datetime import datetime
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.log import file as logfile
from nanotun.log.file import RETRY, SIZE_LIMIT, DailyLogFile

#: Noon, so that every time zone agrees on what an hour more or less means.
NOON = datetime(2026, 11, 22, 12).timestamp()
DAY = 24 * 3600.0
LINE = "x" * 99 + "\n"


class DailyLogFileTests(SynchronousTestCase):
    """L{DailyLogFile}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.midday = NOON
        self.directory = Path(self.mktemp())
        self.complaints: list[str] = []
        self.log = self.makeLog()

    def makeLog(self) -> DailyLogFile:
        """A log in the directory."""
        log = DailyLogFile(str(self.directory), self.clock, self.complaints.append, self.wallClock)
        self.addCleanup(log.close)
        return log

    def wallClock(self) -> float:
        """Noon when the test begins, if nobody sets the clock."""
        return self.midday + self.clock.seconds()

    def names(self) -> list[str]:
        """The names of the files in the directory."""
        return sorted(os.listdir(self.directory))

    def text(self, name: str) -> str:
        """The content of a file."""
        return (self.directory / name).read_text()

    def test_lazy(self) -> None:
        """No directory is made before the first line."""
        self.assertFalse(self.directory.exists())

    def test_write(self) -> None:
        """Lines are written at once to the file with today's date, which others cannot read."""
        self.log.write("a\n")
        self.log.write("\u00e9\n")
        self.assertEqual(self.names(), ["nanotun-2026-11-22.log"])
        self.assertEqual(self.text("nanotun-2026-11-22.log"), "a\n\u00e9\n")
        for path in (self.directory, self.directory / "nanotun-2026-11-22.log"):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o007, 0)

    def test_append(self) -> None:
        """A second run on the same day appends to the file."""
        self.log.write("a\n")
        self.makeLog().write("b\n")
        self.assertEqual(self.text("nanotun-2026-11-22.log"), "a\nb\n")

    def test_nextDay(self) -> None:
        """After midnight there is a file with the new date."""
        self.log.write("a\n")
        self.clock.advance(DAY)
        self.log.write("b\n")
        self.assertEqual(self.names(), ["nanotun-2026-11-22.log", "nanotun-2026-11-23.log"])

    def test_full(self) -> None:
        """A file that would exceed 1 MiB is renamed to the next number."""
        for start in ("a", "b", "c"):
            self.log.write(start + "x" * (SIZE_LIMIT - 2) + "\n")
        self.assertEqual(
            self.names(),
            ["nanotun-2026-11-22.1.log", "nanotun-2026-11-22.2.log", "nanotun-2026-11-22.log"],
        )
        self.assertEqual(self.text("nanotun-2026-11-22.1.log")[0], "a")
        self.assertEqual(self.text("nanotun-2026-11-22.2.log")[0], "b")

    def test_fullAcrossRuns(self) -> None:
        """Size and numbers continue from the files of an earlier run."""
        self.log.write("x" * (SIZE_LIMIT - 1) + "\n")
        later = self.makeLog()
        later.write("b\n")
        self.assertEqual(self.text("nanotun-2026-11-22.log"), "b\n")
        self.assertEqual(self.names()[0], "nanotun-2026-11-22.1.log")

    def test_old(self) -> None:
        """Files more than three days back are removed, with their numbers, and nothing else."""
        self.directory.mkdir()
        gone = ["nanotun-2026-11-18.log", "nanotun-2026-11-18.2.log", "nanotun-2025-12-31.log"]
        kept = ["nanotun-2026-11-19.log", "nanotun-2026-11-21.7.log", "nanotun-2026-11-18.log.gz"]
        kept += ["other-2026-11-18.log", "nanotun-2026-11-18.x.log", "nanotun.log"]
        for name in gone + kept:
            (self.directory / name).touch()
        self.log.write("a\n")
        self.assertEqual(self.names(), sorted([*kept, "nanotun-2026-11-22.log"]))

    def test_flood(self) -> None:
        """However much is written, the number of files stays within its limit."""
        self.patch(logfile, "SIZE_LIMIT", 100)
        self.patch(logfile, "FILE_LIMIT", 3)
        for _ in range(12):
            self.log.write(LINE)
        self.assertEqual(
            self.names(),
            ["nanotun-2026-11-22.10.log", "nanotun-2026-11-22.11.log", "nanotun-2026-11-22.log"],
        )

    def test_workingDirectory(self) -> None:
        """A relative directory is relative to the working directory at the start."""
        name = self.mktemp()
        log = DailyLogFile(name, self.clock, self.complaints.append, self.wallClock)
        expected = Path(name).resolve()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        log.write("a\n")
        log.close()
        self.assertTrue(expected.is_dir())

    def test_removed(self) -> None:
        """A file or directory that somebody removes is created again."""
        self.log.write("a\n")
        (self.directory / "nanotun-2026-11-22.log").unlink()
        self.directory.rmdir()
        self.clock.advance(2)
        self.log.write("b\n")
        self.assertEqual(self.text("nanotun-2026-11-22.log"), "b\n")

    def test_clockSetBack(self) -> None:
        """A clock that is set back by a day delays no attempt: the lines go to that day's file."""
        self.directory.touch()
        self.log.write("lost\n")
        self.directory.unlink()
        self.midday -= DAY
        self.clock.advance(RETRY)
        self.log.write("a\n")
        self.assertEqual(self.text("nanotun-2026-11-21.log").splitlines()[0], "a")
        (self.directory / "nanotun-2026-11-21.log").unlink()
        self.midday += 2 * DAY
        self.clock.advance(2)
        self.log.write("b\n")
        self.assertEqual(self.names(), ["nanotun-2026-11-23.log"])

    def test_unwritable(self) -> None:
        """A directory that cannot be created is one complaint, and is tried again later."""
        self.directory.touch()
        for _ in range(3):
            self.log.write("lost\n")
        self.clock.advance(RETRY)
        self.log.write("lost\n")
        (complaint,) = self.complaints
        self.assertIn(str(self.directory.resolve()), complaint)
        self.directory.unlink()
        self.log.write("still lost\n")
        self.clock.advance(RETRY)
        self.log.write("b\n")
        self.assertEqual(self.text("nanotun-2026-11-22.log"), "b\n")

    def test_diskFull(self) -> None:
        """A full disk is one complaint and no error, until there is room again."""
        self.log.write("a\n")
        real = os.write

        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "write", full)
        self.log.write("lost\n")
        self.patch(os, "write", lambda fd, data: real(fd, data[:2]))
        self.clock.advance(RETRY)
        self.log.write("lost by half\n")
        self.assertEqual(len(self.complaints), 1)
        self.assertIn("No space left", self.complaints[0])
        self.patch(os, "write", real)
        self.clock.advance(RETRY)
        self.log.write("b\n")
        self.assertTrue(self.text("nanotun-2026-11-22.log").endswith("b\n"))

    def test_symlink(self) -> None:
        """A symbolic link in place of the file is not followed, as it may point anywhere."""
        self.directory.mkdir()
        victim = Path(self.mktemp())
        victim.write_text("precious")
        (self.directory / "nanotun-2026-11-22.log").symlink_to(victim.resolve())
        self.log.write("a\n")
        self.assertEqual(victim.read_text(), "precious")
        self.assertEqual(len(self.complaints), 1)

    def test_again(self) -> None:
        """When the directory works again, one sentence says how many lines were lost."""
        self.directory.touch()
        for _ in range(5):
            self.log.write(LINE)
        self.clock.advance(RETRY)
        self.log.write(LINE)
        self.assertEqual(len(self.complaints), 1)
        self.directory.unlink()
        self.clock.advance(RETRY)
        self.log.write(LINE)
        self.log.write(LINE)
        self.assertEqual(
            self.complaints[1:],
            [f"Log files are written to {self.directory.resolve()} again; lines lost: 6."],
        )

    def test_complaintIsALine(self) -> None:
        """The complaints may be written to the file itself, which gets the second of them."""
        log = DailyLogFile(
            str(self.directory),
            self.clock,
            lambda sentence: log.write(f"{sentence}\n"),
            self.wallClock,
        )
        self.addCleanup(log.close)
        self.directory.touch()
        log.write(LINE)
        self.directory.unlink()
        self.clock.advance(RETRY)
        log.write(LINE)
        self.assertEqual(
            self.text("nanotun-2026-11-22.log"),
            f"{LINE}Log files are written to {self.directory.resolve()} again; lines lost: 2.\n",
        )

    def test_cutLine(self) -> None:
        """After a line that was cut short, the next one begins on a line of its own."""
        self.directory.mkdir()
        (self.directory / "nanotun-2026-11-22.log").write_text("a\nhalf of")
        self.log.write("b\n")
        self.assertEqual(self.text("nanotun-2026-11-22.log"), "a\nhalf of\nb\n")

    def test_open(self) -> None:
        """L{DailyLogFile.open} creates the file, or raises for a bad directory."""
        self.log.open()
        self.assertEqual(self.names(), ["nanotun-2026-11-22.log"])
        bad = DailyLogFile("/dev/null/x", self.clock, self.complaints.append)
        self.assertRaises(OSError, bad.open)
        self.assertEqual(self.complaints, [])
