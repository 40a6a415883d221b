"""Tests of L{nanotun.logs}."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import Any, cast

from twisted.application.service import Application, Service
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config import flagValue, makeSettings
from nanotun.keys import KEYS
from nanotun.logs import LineObserver, LoggedService, Terminal, formatLine

SETTINGS = makeSettings(
    {}, {"proxy": flagValue(KEYS["proxy"], "h"), "logDir": flagValue(KEYS["logDir"], "")}, None
)


class FormatLineTests(SynchronousTestCase):
    """L{formatLine}."""

    def line(self, text: str, **fields: Any) -> str:
        """The line of an event."""
        return formatLine(
            {"log_format": text, "log_level": LogLevel.warn, "log_namespace": "n", **fields}
        )

    def test_parts(self) -> None:
        """A line has time, level, namespace and text."""
        self.assertRegex(
            self.line("a {b}", b=1, log_time=0.0),
            r"^19(70|69)-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} warn \[n\] a 1\n$",
        )

    def test_controlCharacters(self) -> None:
        """What steers a terminal, turns the text's direction or ends the line is escaped."""
        line = self.line("{x}", x="a\x1b[2Jb\rc\x00d\x9be\u202ef\u2028g\ud800h")
        self.assertTrue(line[:-1].isprintable())
        for escaped in ("\\x1b", "\\r", "\\x00", "\\x9b", "\\u202e", "\\u2028", "\\ud800"):
            self.assertIn(escaped, line)

    def test_forgedLine(self) -> None:
        """A newline in a value begins no line that looks like one of ours."""
        self.assertIn("a\n\t2026", self.line("{x}", x="a\n2026-01-01 error [n] forged"))

    def test_traceback(self) -> None:
        """A failure comes with its traceback, indented."""
        text = self.line("oops", log_failure=Failure(ZeroDivisionError("why")))
        self.assertIn("oops\n\tTraceback", text)
        self.assertIn("ZeroDivisionError: why", text)

    def test_nothing(self) -> None:
        """An event without a text is no line."""
        self.assertEqual(formatLine({"log_level": LogLevel.info}), "")


class LineObserverTests(SynchronousTestCase):
    """L{LineObserver}."""

    def test_interface(self) -> None:
        """It is an observer."""
        verifyObject(ILogObserver, LineObserver())

    def test_brokenSink(self) -> None:
        """A sink that fails keeps no other from its line."""
        lines: list[str] = []

        def broken(line: str) -> None:
            raise OSError(errno.ENOSPC, "full")

        observer = LineObserver()
        observer.add(broken)
        observer.add(lines.append)
        observer({"log_format": "a", "log_level": LogLevel.info})
        self.assertEqual(len(lines), 1)


class TerminalTests(SynchronousTestCase):
    """L{Terminal}."""

    def test_noStderr(self) -> None:
        """Without a stderr, or with nobody at its other end, lines are lost and that is all."""
        read, write = os.pipe()
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        os.close(write)
        os.close(read)
        terminal.write("a\n")
        Terminal(write).write("a\n")

    def test_release(self) -> None:
        """Once released, whoever reads the other end sees the end."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        terminal = Terminal(write)
        os.close(write)
        terminal.write("a\n")
        terminal.release()
        terminal.write("b\n")
        self.assertEqual(os.read(read, 10), b"a\n")
        self.assertEqual(os.read(read, 10), b"")


class LoggedServiceTests(SynchronousTestCase):
    """L{LoggedService}, as twistd uses it."""

    def start(self, twistd: dict[str, object], **changes: str) -> LoggedService:
        """Give a service an application, as twistd does, and log through that one's observer."""
        self.read, write = os.pipe()
        os.set_blocking(self.read, False)
        self.addCleanup(os.close, self.read)
        settings = replace(SETTINGS, **cast(Any, changes))
        service = LoggedService(settings, twistd, Clock(), write)
        application: Any = Application("test")
        service.setServiceParent(application)
        os.close(write)
        terminal = service._terminal
        assert terminal is not None
        self.addCleanup(terminal.release)
        observer = application.getComponent(ILogObserver)
        self.logger = Logger(namespace="nanotun.test", observer=observer)
        self.twisted = Logger(namespace="twisted.test", observer=observer)
        return service

    def stderr(self) -> str:
        """What has reached stderr since the last look."""
        try:
            return os.read(self.read, 65536).decode()
        except BlockingIOError:
            return ""

    def test_levels(self) -> None:
        """Each level lets itself and what is worse through."""
        names = ["debug", "info", "warn", "error"]
        for index, level in enumerate(names):
            self.start({"nodaemon": True}, logLevel=level)
            for name in names:
                getattr(self.logger, name)(f"say {name}")
            seen = self.stderr()
            self.assertEqual(
                [name for name in names if f"say {name}\n" in seen], names[index:], level
            )

    def test_twistedIsQuiet(self) -> None:
        """Of Twisted's own lines only warnings and worse pass, but at debug all do."""
        for level, expected in (("info", ["warn"]), ("debug", ["info", "warn"]), ("error", [])):
            self.start({"nodaemon": True}, logLevel=level)
            self.twisted.info("say info")
            self.twisted.warn("say warn")
            seen = self.stderr()
            self.assertEqual([n for n in ("info", "warn") if f"say {n}" in seen], expected)

    def test_belowLevelCostsNoLine(self) -> None:
        """What the level leaves out is not even formatted."""

        class Costly:
            def __str__(self) -> str:
                raise AssertionError("formatted")

        self.start({"nodaemon": True}, logLevel="error")
        self.logger.warn("{costly}", costly=Costly())
        self.assertEqual(self.stderr(), "")

    def test_foreground(self) -> None:
        """With -n lines go to stderr, also after the start."""
        self.start({"nodaemon": True}).startService()
        self.logger.info("hello")
        self.assertIn("hello", self.stderr())

    def test_daemon(self) -> None:
        """Of a daemon the terminal sees what goes wrong until it runs, and then its end."""
        service = self.start({"nodaemon": False})
        self.logger.info("quiet")
        self.logger.error("trouble")
        self.assertRegex(self.stderr(), r"^\S+ error \[nanotun.test\] trouble\n$")
        service.startService()
        self.assertEqual(os.read(self.read, 1), b"", "somebody would wait for ever")

    def test_daemonThatFails(self) -> None:
        """What a failing start logs still reaches the terminal."""
        service = self.start({"nodaemon": False})

        class Broken(Service):
            def startService(_) -> None:
                self.logger.error("cannot start")
                raise ZeroDivisionError

        Broken().setServiceParent(service)
        self.assertRaises(ZeroDivisionError, service.startService)
        self.assertIn("cannot start", self.stderr())

    def test_files(self) -> None:
        """Lines also go to files in logDir, at the same level."""
        directory = self.mktemp()
        self.start({"nodaemon": True}, logDir=directory)
        self.logger.debug("quiet")
        self.logger.info("hello")
        (name,) = os.listdir(directory)
        with open(os.path.join(directory, name)) as file:
            self.assertRegex(file.read(), r"^\S+ info \[nanotun.test\] hello\n$")

    def test_filesFail(self) -> None:
        """A directory that cannot be is a word on stderr and nothing more."""
        path = self.mktemp()
        with open(path, "w"):
            self.start({"nodaemon": True}, logDir=path)
        self.logger.info("hello")
        self.logger.info("again")
        seen = self.stderr()
        self.assertEqual(seen.count("Log files cannot be written"), 1)
        self.assertIn("hello", seen)
        self.assertIn("again", seen)

    def test_logfile(self) -> None:
        """twistd's --logfile takes the place of stderr, at the same level."""
        path = self.mktemp()
        self.start({"nodaemon": True, "logfile": path})
        self.logger.debug("quiet")
        self.logger.info("hello")
        with open(path) as file:
            self.assertRegex(file.read(), r"^\S+ info \[nanotun.test\] hello\n$")
        self.assertEqual(self.stderr(), "")

    def test_deviceAsLogfile(self) -> None:
        """A special file is never renamed to make room, which would end /dev/null."""
        self.start({"nodaemon": True, "logfile": "/dev/null"})
        self.patch(LogFile, "rotate", lambda _: self.fail("renamed"))
        for _ in range(20):
            self.logger.info("x" * 100_000)

    def test_badLogfile(self) -> None:
        """A --logfile that cannot be is one sentence and status 1."""
        for path, twistd in (("/nonexistent/x", {"nodaemon": True}), ("-", {"nodaemon": False})):
            error = self.assertRaises(SystemExit, self.start, {**twistd, "logfile": path})
            self.assertTrue(str(error.code).startswith("nanotun: --logfile"))
