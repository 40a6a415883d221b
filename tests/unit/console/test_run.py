"""Tests of L{nanotun.console.run}, C{options}, C{runner} and C{signals}."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any, cast

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.cell import launch
from nanotun.cell.channel import Channel
from nanotun.config.keys import KEYS
from nanotun.console import run
from nanotun.console.run import options, signals
from nanotun.console.run.options import REFUSED, RunOptions
from nanotun.console.run.runner import CommandRunner, Sentences
from nanotun.errors import RoutingError
from nanotun.linux.users import nameOf


class ConsoleCase(SynchronousTestCase):
    """Collects what is said to the user."""

    def setUp(self) -> None:
        """Keep sentences away from the terminal."""
        self.said: list[str] = []
        self.patch(options, "say", self.said.append)
        self.patch(run, "blockSignals", set)


class OptionsTests(ConsoleCase):
    """L{RunOptions}."""

    def parse(self, *arguments: str) -> RunOptions:
        """Parse options that are right."""
        options = RunOptions()
        options.parseOptions(["--proxy", "socks5://proxy.example", *arguments])
        return options

    def refused(self, *arguments: str) -> str:
        """The sentence for options that are wrong."""
        error = self.assertRaises(SystemExit, self.parse, *arguments)
        self.assertEqual(error.code, 125)
        return self.said[-1]

    def test_command(self) -> None:
        """The command may follow two dashes or not, and its options are its own."""
        for arguments in (["--", "curl", "--proxy", "x"], ["curl", "--proxy", "x"]):
            self.assertEqual(self.parse(*arguments).command, ("curl", "--proxy", "x"))
        self.assertIn("there is no command to run", self.refused())
        self.assertIn("there is no command to run", self.refused("--"))

    def test_known(self) -> None:
        """The command's user and name are what fields in a proxy's user name stand for."""
        self.patch(os, "geteuid", lambda: 0)
        proxy = "--proxy", "socks5://{user}-{process}:secret@h:1"
        for flags, uid in ((), 0), (("--user", "65534"), 65534):
            known = self.parse(*proxy, *flags, "/usr/bin/curl", "x").known
            self.assertEqual(known["process"], "curl")
            self.assertEqual((known["user"], known["uid"]), (nameOf(uid), str(uid)))

    def test_knownUser(self) -> None:
        """A user's name, which may have to be asked for, is not looked up for nothing."""
        self.assertNotIn("user", self.parse("--proxy", "socks5://{uid}:x@h:1", "curl").known)

    def test_quiet(self) -> None:
        """Only errors are logged, and to no file, unless the command line asks for more."""
        options = self.parse("true")
        self.assertEqual((options.settings.logLevel, options.settings.logDir), ("error", ""))
        self.assertFalse(options.tellsAll)
        options = self.parse("--log-level", "debug", "--log-dir", "/x", "true")
        self.assertEqual((options.settings.logLevel, options.settings.logDir), ("debug", "/x"))
        self.assertTrue(options.tellsAll)

    def test_file(self) -> None:
        """
        Settings that would affect the machine or the daemon's files are not taken from a file.
        """
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_text(
            "proxy: direct://\nautoDefaultRoute: true\nkillSwitch: true\ntunName: x0\nmtu: 1400\n"
            "excludedProcesses: curl\nlogLevel: debug\nlogDir: /logs\n"
        )
        settings = self.parse("--config", str(path), "true").settings
        self.assertEqual(settings.mtu, 1400)
        self.assertEqual(settings.tunName, "nano0")
        self.assertFalse(settings.autoDefaultRoute or settings.killSwitch)
        self.assertEqual(settings.excludedProcesses, ())
        self.assertEqual((settings.logLevel, settings.logDir), ("error", ""))
        self.assertEqual(settings.dnsStateFile, "")

    def test_environment(self) -> None:
        """A variable counts as an option does, but one of a refused option is left out."""
        variables = {"NANOTUN_MTU": "1400", "NANOTUN_TUNNAME": "x0", "NANOTUN_LOGLEVEL": "info"}
        self.patch(os, "environ", {**variables, "NANOTUN_KILLSWITCH": "true"})
        options = self.parse("true")
        self.assertEqual((options.settings.mtu, options.settings.tunName), (1400, "nano0"))
        self.assertFalse(options.settings.killSwitch)
        self.assertEqual((options.settings.logLevel, options.tellsAll), ("info", True))

    def test_noNotices(self) -> None:
        """Settings that need autoDefaultRoute cause no warning: they mean nothing here."""
        self.patch(os, "environ", {"NANOTUN_KILLSWITCH": "true", "NANOTUN_IPV6": "block"})
        self.assertEqual(self.parse("--dns-mode", "fake-ip", "true").notices, ())

    def test_refused(self) -> None:
        """Every option that has no meaning here is refused by its name."""
        for flag in REFUSED:
            arguments = [f"--{flag}"] if flag == "auto-route" else [f"--{flag}", "5"]
            self.assertEqual(
                self.refused(*arguments, "true"),
                f"--{flag} has no meaning for 'nanotun run': COMMAND has a network of its own, "
                "and nothing of this machine's is changed; leave it out.",
            )

    def test_keepProxyEnv(self) -> None:
        """The variables of proxies are the command's only if it is said so."""
        self.assertFalse(self.parse("true").keepsProxyEnv)
        self.assertTrue(self.parse("--keep-proxy-env", "true").keepsProxyEnv)

    def test_user(self) -> None:
        """The user is looked up, for root."""
        self.patch(os, "geteuid", lambda: 0)
        user = self.parse("-u", "root", "id").user
        assert user is not None
        self.assertEqual(user.uid, 0)
        self.assertIn(
            "no user 'nobody-of-that-name'", self.refused("-u", "nobody-of-that-name", "x")
        )

    def test_userByUser(self) -> None:
        """Only root can name another user than itself."""
        self.patch(os, "geteuid", lambda: 65534)
        user = self.parse("-u", "65534", "id").user
        assert user is not None
        self.assertEqual(user.uid, 65534)
        self.assertEqual(
            self.refused("-u", "root", "id"),
            f"--user: {nameOf(65534)} cannot run COMMAND as another user, which only root can; "
            "leave it out, or run nanotun by sudo.",
        )

    def test_help(self) -> None:
        """The help fits a screen and names exactly the options that are accepted."""
        options = RunOptions()
        text = str(options)
        self.assertLessEqual(len(text.splitlines()), 23)
        named = set(re.findall(r"--([a-z][a-z0-9-]+)", text)) - {"no-x", "help"}
        accepted = {each.rstrip("=") for each in options.longOpt} - {"help", "version"}
        self.assertEqual(named, accepted - set(REFUSED))
        self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_helpAll(self) -> None:
        """--help all explains each of them, and shows no default that is the daemon's only."""
        options = RunOptions()
        options.whole = True
        text = str(options)
        for each in options.longOpt:
            name = each.rstrip("=")
            explained = re.search(rf"^  (-., )?--{name}\b(?!-)", text, re.M) is not None
            self.assertEqual(explained, name not in {*REFUSED, "version"}, name)
        plain = " ".join(text.split())
        for key in KEYS.values():
            if key.run.fixed is not None and key.default and not key.run.refused:
                own = plain[plain.index(f"--{key.flag} ") :].split(" --")[0]
                self.assertNotIn(f"default: {key.default}", own)
        self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_noProxy(self) -> None:
        """Without any proxy the error says what sudo does to the variable."""
        self.patch(os, "environ", {"ALL_PROXY": ""})
        self.assertRaises(SystemExit, RunOptions().parseOptions, ["true"])
        self.assertEqual(
            self.said,
            [
                "No proxy is set: give --proxy URL, --config FILE or the variable ALL_PROXY, which "
                "sudo drops unless it is called as 'sudo --preserve-env=ALL_PROXY nanotun run ...'."
            ],
        )

    def test_say(self) -> None:
        """A sentence is written to stderr, whatever its characters, even if nobody reads it."""
        code = (
            "from nanotun.console.run.options import say\n"
            "say('a \\udcff\\x1b[2J\\n\\tb'); import os; os.close(2); say('b')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, b"nanotun: a \\udcff\\x1b[2J\n\tb\n"))


class MainTests(ConsoleCase):
    """L{run.main}."""

    def test_wrongLine(self) -> None:
        """The error for an unknown option is one sentence."""
        error = self.assertRaises(SystemExit, run.main, ["--nonsense"])
        self.assertEqual(error.code, 125)
        self.assertEqual(
            self.said,
            ["there is no option --nonsense; see 'nanotun run --help'."],
        )

    def test_rootless(self) -> None:
        """The cell is told whether root makes it."""
        asked: list[object] = []

        def cell(*arguments: object, rootless: bool, **options: object) -> None:
            asked.append(rootless)
            raise RoutingError("no cell here.")

        self.patch(launch, "Cell", cell)
        for uid in (0, 1000):
            self.patch(os, "geteuid", lambda uid=uid: uid)
            self.assertRaises(SystemExit, run.main, ["--proxy", "socks5://h", "true"])
        self.assertEqual(asked, [False, True])

    def test_noCell(self) -> None:
        """The reason why no cell can be made is one sentence."""

        def cell(*arguments: object, **options: object) -> None:
            raise RoutingError("no cell here.")

        self.patch(os, "geteuid", lambda: 0)

        def broken(*arguments: object, **options: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        self.patch(launch, "Cell", cell)
        self.assertRaises(SystemExit, run.main, ["--proxy", "socks5://h", "true"])
        self.patch(launch, "Cell", broken)
        self.assertRaises(SystemExit, run.main, ["--proxy", "socks5://h", "true"])
        self.assertEqual(
            self.said,
            [
                "no cell here.",
                "the command's network cannot be made (Too many open files); look at the limits "
                "of open files and of memory.",
            ],
        )

    def test_wholeFirst(self) -> None:
        """Names without a dot are asked for as they are first if the proxy resolves them."""
        asked: list[object] = []

        def cell(*arguments: object, wholeFirst: bool, rootless: bool) -> None:
            asked.append(wholeFirst)
            raise RoutingError("no cell here.")

        self.patch(os, "geteuid", lambda: 0)
        self.patch(launch, "Cell", cell)
        for proxy in ("socks5://h", "socks4://192.0.2.1"):
            self.assertRaises(SystemExit, run.main, ["--proxy", proxy, "true"])
        self.assertEqual(asked, [True, False])

    def test_closedStreams(self) -> None:
        """If the standard streams are closed, no other file gets their numbers."""
        code = (
            "import os; [os.close(fd) for fd in (0, 1, 2)]\n"
            "from nanotun.console import fillStreams; fillStreams()\n"
            "fd = os.open('/', 0); os._exit(fd != 3 or not all(map(os.get_inheritable, (0, 1, 2))))"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code]).returncode, 0)


class FakeReactor:
    """Keeps the readers."""

    def __init__(self) -> None:
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        """Watch a reader."""
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """Stop watching a reader."""
        self.readers.remove(reader)


class RunnerTests(SynchronousTestCase):
    """L{CommandRunner}."""

    def setUp(self) -> None:
        """Make a runner."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.helper = Channel(theirs)
        self.addCleanup(self.helper.close)
        channel = Channel(ours)
        self.addCleanup(channel.close)
        self.reactor = FakeReactor()
        self.stops: list[int] = []
        self.said: list[str] = []
        self.runner = CommandRunner(
            channel, self.reactor, lambda: self.stops.append(1), self.said.append
        )

    def hear(self, **message: Any) -> None:
        """Let the helper send a message."""
        self.helper.send(**message)
        self.runner.doRead()

    def assertEnded(self, status: int, *said: str) -> None:
        """The runner ended once, with this status and these sentences."""
        self.assertEqual((self.runner.status, self.stops, self.said), (status, [1], list(said)))
        self.assertEqual(self.reactor.readers, [])

    def test_interface(self) -> None:
        """The runner is a reader."""
        verifyObject(IReadDescriptor, self.runner)
        self.assertEqual(self.runner.logPrefix(), "run")
        self.assertGreater(self.runner.fileno(), 2)
        self.runner.connectionLost(Failure(Exception()))

    def test_ended(self) -> None:
        """The command is started, and its status becomes nanotun's."""
        self.runner.start()
        self.assertEqual(self.helper.receive(), ({"run": True}, None))
        self.assertEqual(self.reactor.readers, [self.runner])
        self.hear(ended=7, left=[], leftMore=0)
        self.assertEnded(7)

    def test_left(self) -> None:
        """Processes that the command left behind are reported."""
        self.runner.start()
        self.hear(ended=0, left=["a (pid 1)", "b (pid 2)"], leftMore=3)
        self.assertEnded(
            0,
            "the command left a (pid 1), b (pid 2) and 3 more, ended now, because the network "
            "goes with the command.",
        )

    def test_failed(self) -> None:
        """A command that could not be started, or a cell that failed, is reported."""
        self.runner.start()
        self.hear(failed="x: command not found.", status=127)
        self.assertEnded(127, "x: command not found.")
        self.setUp()
        self.runner.start()
        self.hear(failed="no mounts.")
        self.assertEnded(125, "no mounts.")

    def test_helperGone(self) -> None:
        """The helper's end is reported, whether it comes before or after the start."""
        text = "the process beside the command was killed; the command is ended with it."
        self.runner.start()
        self.helper.close()
        self.runner.doRead()
        self.assertEnded(125, text)
        self.setUp()
        self.helper.close()
        self.runner.start()
        self.assertEnded(125, text)

    def test_signals(self) -> None:
        """Signals are forwarded, except those of the terminal, which the command already has."""
        self.runner.start()
        self.helper.receive()
        self.runner.signalReceived(signal.SIGTERM, False)
        self.assertEqual(self.helper.receive(), ({"signal": signal.SIGTERM}, None))
        self.runner.signalReceived(signal.SIGINT, True)
        self.assertRaises(TimeoutError, self.helper.receive, 0.0001)
        self.assertEqual(self.stops, [])
        self.hear(ended=143, left=[], leftMore=0)
        self.runner.signalReceived(signal.SIGTERM, False)
        self.assertEnded(143)

    def test_signalGone(self) -> None:
        """A signal for a helper that is gone does no harm."""
        self.runner.start()
        self.helper.close()
        self.runner.signalReceived(signal.SIGTERM, False)
        self.assertEqual(self.stops, [])

    def test_early(self) -> None:
        """Without a command, a signal ends nanotun."""
        self.reactor.addReader(self.runner)
        self.runner.signalReceived(signal.SIGINT, False)
        self.assertEnded(130)

    def test_earlier(self) -> None:
        """After a signal during the start of the tunnel, no command is started."""
        self.runner.early = signal.SIGINT
        self.runner.start()
        self.runner.signalReceived(signal.SIGINT, False)
        self.assertEnded(130)
        self.assertEqual(select.select([self.helper.fileno()], [], [], 0), ([], [], []))

    def test_deviceLost(self) -> None:
        """The loss of the device ends the run."""
        self.runner.start()
        self.runner.deviceLost(1)
        self.runner.deviceLost(1)
        self.assertEnded(125)


class SentencesTests(SynchronousTestCase):
    """L{Sentences}."""

    def test_lines(self) -> None:
        """A line is shown whole, or only its sentence."""
        said: list[str] = []
        line = "2026-01-01T00:00:00+0000 error [nanotun.service] nanotun cannot start: no [x] y.\n"
        Sentences(said.append, False).write(line)
        Sentences(said.append, True).write(line)
        self.assertEqual(said, ["no [x] y.", line.rstrip()])


Info = namedtuple("Info", "si_signo si_code")


class SignalTests(SynchronousTestCase):
    """L{signals}."""

    def test_watch(self) -> None:
        """Each signal is reported with its sender."""
        infos = [Info(signal.SIGINT, signals.SI_KERNEL), Info(signal.SIGTERM, 0), None]
        heard: list[tuple[int, bool]] = []
        thread = signals.watchSignals(
            {signal.SIGINT},
            lambda number, fromKernel: heard.append((number, fromKernel)),
            lambda watched: cast(Any, infos.pop(0)),
        )
        thread.join(10)
        self.assertEqual(heard, [(signal.SIGINT, True), (signal.SIGTERM, False)])
        self.assertTrue(thread.daemon)

    def test_block(self) -> None:
        """Signals are blocked, except for those that are ignored."""
        code = (
            "import signal\n"
            "from nanotun.console.run import signals\n"
            "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_DFL)\n"
            "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
            "watched = signals.blockSignals()\n"
            "assert signal.SIGHUP not in watched, watched\n"
            "assert watched == signal.pthread_sigmask(signal.SIG_BLOCK, []), watched\n"
            "assert {signal.SIGINT, signal.SIGTERM} < watched, watched\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
