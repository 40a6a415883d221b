"""Tests of L{nanotun.log.service}."""

from __future__ import annotations

import errno
import json
import os
import threading
from typing import Any, cast

from twisted.application.service import Application, Service
from twisted.internet.task import Clock
from twisted.logger import ILogFilterPredicate, ILogObserver, Logger, LogLevel
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import ConfigError
from nanotun.log.service import LevelSwitch, LineObserver, LoggedService, LogOptions

OPTIONS = LogOptions("info", "", "text")


class LineObserverTests(SynchronousTestCase):
    """L{LineObserver}."""

    def test_interface(self) -> None:
        """It is an observer."""
        verifyObject(ILogObserver, LineObserver())

    def test_brokenSink(self) -> None:
        """A sink that fails does not keep the line from other sinks."""
        lines: list[str] = []

        def broken(line: str) -> None:
            raise OSError(errno.ENOSPC, "full")

        observer = LineObserver()
        observer.add(broken)
        observer.add(lines.append)
        observer({"log_format": "a", "log_level": LogLevel.info})
        self.assertEqual(len(lines), 1)

    def test_threads(self) -> None:
        """Events of several threads are written one at a time."""
        inside: list[int] = []
        seen: list[int] = []
        null = os.open("/dev/null", os.O_WRONLY)
        self.addCleanup(os.close, null)

        def sink(line: str) -> None:
            inside.append(1)
            os.write(null, b"x")  # Another thread may run meanwhile.
            seen.append(len(inside))
            inside.pop()

        observer = LineObserver()
        observer.add(sink)

        def log() -> None:
            for number in range(200):
                observer({"log_format": "{n}", "n": number, "log_level": LogLevel.info})

        threads = [threading.Thread(target=log) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual(seen, [1] * 800)


class LevelSwitchTests(SynchronousTestCase):
    """L{LevelSwitch}."""

    def test_interface(self) -> None:
        """It is a filter."""
        verifyObject(ILogFilterPredicate, LevelSwitch("info"))


class LoggedServiceTests(SynchronousTestCase):
    """L{LoggedService}, as twistd uses it."""

    def start(
        self, twistd: dict[str, object], journal: bool = False, **changes: str
    ) -> LoggedService:
        """Give a service an application, as twistd does, and log through that one's observer."""
        self.read, write = os.pipe()
        os.set_blocking(self.read, False)
        self.addCleanup(os.close, self.read)
        options = OPTIONS._replace(**cast(Any, changes))
        status = os.fstat(write)
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else {}
        service = LoggedService(options, twistd, Clock(), write, environment)
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
        """What was written to stderr since the last call."""
        try:
            return os.read(self.read, 65536).decode()
        except BlockingIOError:
            return ""

    def test_levels(self) -> None:
        """Each level lets itself and more important levels pass."""
        names = ["debug", "info", "warn", "error"]
        for index, level in enumerate(names):
            self.start({"nodaemon": True}, level=level)
            for name in names:
                getattr(self.logger, name)(f"say {name}")
            seen = self.stderr()
            self.assertEqual(
                [name for name in names if f"say {name}\n" in seen], names[index:], level
            )

    def test_twistedIsQuiet(self) -> None:
        """Of Twisted's own events only warnings and errors pass, except at debug."""
        for level, expected in (("info", ["warn"]), ("debug", ["info", "warn"]), ("error", [])):
            self.start({"nodaemon": True}, level=level)
            self.twisted.info("say info")
            self.twisted.warn("say warn")
            seen = self.stderr()
            self.assertEqual([n for n in ("info", "warn") if f"say {n}" in seen], expected)

    def test_belowLevelCostsNoLine(self) -> None:
        """Events below the level are not even formatted."""

        class Costly:
            def __str__(self) -> str:
                raise AssertionError("formatted")

        self.start({"nodaemon": True}, level="error")
        self.logger.warn("{costly}", costly=Costly())
        self.assertEqual(self.stderr(), "")

    def test_foreground(self) -> None:
        """With -n, lines are written to stderr, also after the start."""
        self.start({"nodaemon": True}).startService()
        self.logger.info("hello")
        self.assertIn("hello", self.stderr())

    def test_daemon(self) -> None:
        """The terminal gets a daemon's warnings until it has started, and then is closed."""
        service = self.start({"nodaemon": False})
        self.logger.info("quiet")
        self.logger.error("trouble")
        self.assertRegex(self.stderr(), r"^\S+ error \[nanotun.test\] trouble\n$")
        service.startService()
        self.assertEqual(os.read(self.read, 1), b"", "somebody would wait for ever")

    def test_daemonThatFails(self) -> None:
        """The errors of a start that fails are written to the terminal."""
        service = self.start({"nodaemon": False})

        class Broken(Service):
            def startService(_) -> None:
                self.logger.error("cannot start")
                raise ZeroDivisionError

        Broken().setServiceParent(service)
        self.assertRaises(ZeroDivisionError, service.startService)
        self.assertIn("cannot start", self.stderr())

    def test_files(self) -> None:
        """Lines are also written to files in logDir, at the same level."""
        directory = self.mktemp()
        self.start({"nodaemon": True}, directory=directory)
        self.logger.debug("quiet")
        self.logger.info("hello")
        (name,) = os.listdir(directory)
        with open(os.path.join(directory, name)) as file:
            self.assertRegex(file.read(), r"^\S+ info \[nanotun.test\] hello\n$")

    def test_filesFail(self) -> None:
        """A directory that cannot be created is one line on stderr and nothing more."""
        path = self.mktemp()
        with open(path, "w"):
            self.start({"nodaemon": True}, directory=path)
        self.logger.info("hello")
        self.logger.info("again")
        seen = self.stderr()
        self.assertEqual(seen.count("Log files cannot be written"), 1)
        self.assertIn("hello", seen)
        self.assertIn("again", seen)

    def test_logfile(self) -> None:
        """twistd's --logfile replaces stderr, at the same level."""
        path = self.mktemp()
        self.start({"nodaemon": True, "logfile": path})
        self.logger.debug("quiet")
        self.logger.info("hello")
        with open(path) as file:
            self.assertRegex(file.read(), r"^\S+ info \[nanotun.test\] hello\n$")
        self.assertEqual(self.stderr(), "")

    def test_deviceAsLogfile(self) -> None:
        """A special file such as /dev/null is never renamed to make room."""
        self.start({"nodaemon": True, "logfile": "/dev/null"})
        self.patch(LogFile, "rotate", lambda _: self.fail("renamed"))
        for _ in range(20):
            self.logger.info("x" * 100_000)

    def test_badLogfile(self) -> None:
        """A --logfile that cannot be opened is one sentence and status 1."""
        for path, twistd in (("/nonexistent/x", {"nodaemon": True}), ("-", {"nodaemon": False})):
            error = self.assertRaises(SystemExit, self.start, {**twistd, "logfile": path})
            self.assertTrue(str(error.code).startswith("nanotun: --logfile"))

    def logged(self, directory: str) -> str:
        """The content of the only file in a directory."""
        (name,) = os.listdir(directory)
        with open(os.path.join(directory, name)) as file:
            return file.read()

    def test_json(self) -> None:
        """With logFormat json, stderr and files have objects, the complaint about files too."""
        directory = self.mktemp()
        self.start({"nodaemon": True}, directory=directory, format="json")
        self.logger.info("hello {who}", who="you")
        for line in (self.logged(directory), self.stderr()):
            self.assertEqual(json.loads(line)["fields"], {"who": "you"})
        self.start({"nodaemon": True}, directory="/dev/null/x", format="json")
        self.logger.info("hello")
        lines = [json.loads(line) for line in self.stderr().splitlines()]
        self.assertEqual([line["level"] for line in lines], ["info", "error"])

    def test_journal(self) -> None:
        """Lines for the journal begin with their level, and other lines do not."""
        self.start({"nodaemon": True}, journal=True)
        self.logger.warn("hello")
        self.assertRegex(self.stderr(), r"^<4>\S+ warn ")

    def test_configure(self) -> None:
        """Level, format and directory are taken over; stderr stays open."""
        first, second = self.mktemp(), self.mktemp()
        service = self.start({"nodaemon": True}, directory=first)
        service.startService()
        self.logger.debug("quiet")
        self.logger.info("one")
        changed = OPTIONS._replace(level="debug", format="json", directory=second)
        service.configure(changed)
        self.logger.debug("two")
        self.assertRegex(self.logged(first), r"^\S+ info \[nanotun.test\] one\n$")
        self.assertEqual(json.loads(self.logged(second))["text"], "two")
        self.assertRegex(self.stderr(), r'(?s)^\S+ info \[nanotun.test\] one\n\{"time".*two"\}\n$')
        service.configure(changed._replace(directory="", level="error"))
        self.logger.warn("three")
        self.logger.error("four")
        self.assertNotIn("four", self.logged(second))
        self.assertEqual(json.loads(self.stderr())["text"], "four")

    def test_configureAgain(self) -> None:
        """The same settings again leave the log file open, and each line is there once."""
        directory = self.mktemp()
        service = self.start({"nodaemon": True}, directory=directory)
        self.logger.info("one")
        files = service._files
        for _ in range(2):
            service.configure(OPTIONS._replace(directory=directory))
        self.assertIs(service._files, files)
        self.logger.info("two")
        self.assertRegex(self.logged(directory), r"^\S+ info .*one\n\S+ info .*two\n$")
        self.assertRegex(self.stderr(), r"^\S+ info .*one\n\S+ info .*two\n$")

    def test_configureDaemon(self) -> None:
        """A daemon's terminal stays closed, and its --logfile open."""
        path = self.mktemp()
        service = self.start({"nodaemon": False, "logfile": path})
        service.startService()
        service.configure(OPTIONS._replace(level="debug"))
        self.logger.debug("hello")
        self.assertEqual(os.read(self.read, 1), b"")
        with open(path) as file:
            self.assertIn("hello", file.read())

    def test_configureBad(self) -> None:
        """A directory that cannot be created is one sentence, and nothing changes."""
        directory = self.mktemp()
        service = self.start({"nodaemon": True}, directory=directory)
        bad = OPTIONS._replace(directory="/dev/null/x", level="error", format="json")
        error = self.assertRaises(ConfigError, service.configure, bad)
        self.assertEqual(
            str(error),
            "logDir /dev/null/x cannot be written to (Not a directory); choose another directory.",
        )
        self.logger.info("hello")
        self.assertRegex(self.logged(directory), r"^\S+ info .*hello\n$")

    def test_noDirectory(self) -> None:
        """Logging works in a working directory that was removed."""
        path = self.mktemp()
        os.mkdir(path)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(path)
        os.rmdir(os.getcwd())
        self.start({"nodaemon": True})
        self.logger.info("hello")
        self.assertIn("hello", self.stderr())

    def test_relative(self) -> None:
        """A relative directory of a reload is relative to where the daemon was started."""
        service = self.start({"nodaemon": True})
        directory = self.mktemp()
        os.mkdir(directory)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        service.configure(OPTIONS._replace(directory=os.path.join(directory, "logs")))
        self.logger.info("hello")
        os.chdir(service._base)
        self.assertIn("hello", self.logged(os.path.join(directory, "logs")))
