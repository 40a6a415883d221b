"""Tests of L{nanotun.cell.helper} and L{nanotun.cell.launch}: real children, no namespaces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell import helper, launch
from nanotun.cell.channel import Channel, ChannelClosed
from nanotun.cell.command import HIDDEN, SIGNALS, startCommand
from nanotun.cell.helper import Helper
from nanotun.cell.launch import BOOT, Cell
from nanotun.cell.leftovers import Resident
from nanotun.cell.ports import ASKING
from nanotun.cell.refusals import Refusals
from nanotun.errors import DeviceError, NanotunError, RoutingError
from nanotun.testing import MemoryTunOpener


class QuietMounts:
    """Mounts nothing."""

    failure: NanotunError | None = None
    repairs = 0

    def apply(self) -> list[str]:
        """Return a note, or raise the given error."""
        if self.failure is not None:
            raise self.failure
        return ["a note."]

    def repair(self) -> bool:
        """Count the call, and fail."""
        self.repairs += 1
        raise RoutingError("refused.")


class PipeOpener(MemoryTunOpener):
    """Opens devices with an fd that can be sent."""

    def open(self, name: str, mtu: int, offload: str) -> Any:
        """Open a device with an fd."""
        device = super().open(name, mtu, offload)
        fd = os.open(os.devnull, os.O_RDWR)

        def close() -> None:
            os.close(fd)
            forget()

        forget = device.close
        cast(Any, device).fileno = lambda: fd
        cast(Any, device).close = close
        return device


class HelperTests(SynchronousTestCase):
    """L{Helper}, run in a thread; the test does what needs the main thread."""

    def setUp(self) -> None:
        """Make a helper that finds no other process in its cell."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(ours)
        self.addCleanup(self.channel.close)
        before = signal.getsignal(signal.SIGCHLD)
        self.addCleanup(signal.signal, signal.SIGCHLD, before)
        self.addCleanup(lambda: os.close(signal.set_wakeup_fd(-1)))
        self.opener = PipeOpener()
        self.mounts = QuietMounts()
        self.routed: list[str] = []
        self.left: list[Resident] = []
        self.patch(helper, "endAll", lambda find: self.left)
        self.patch(helper, "REPAIR_INTERVAL", 0.01)
        self.helper = Helper(
            Channel(theirs), self.opener, cast(Any, self.mounts), self.route, lambda: ["logged."]
        )
        self.addCleanup(os.close, self.helper._wakeup)

    def route(self, device: str) -> None:
        """Record the device."""
        self.routed.append(device)

    def serve(self, *argv: str) -> Callable[[], None]:
        """Start the helper; returns a function that waits for its end."""
        thread = threading.Thread(
            target=self.helper.serve, args=(argv, None, dict(os.environ)), daemon=True
        )
        thread.start()
        self.assertEqual(self.receive(), {"hello": os.getpid()})

        def ended() -> None:
            self.channel.close()
            thread.join(10)
            self.assertFalse(thread.is_alive())

        return ended

    def receive(self) -> dict[str, Any]:
        """The next message; an fd that comes with it is closed."""
        message, fd = self.channel.receive(10)
        if fd is not None:
            os.close(fd)
        return message

    def open(self) -> dict[str, Any]:
        """Ask for the device."""
        self.channel.send(open=["nano0", 1400, "auto"])
        return self.receive()

    def test_wholeLife(self) -> None:
        """The helper makes device and routes, runs the command, and reports its status."""
        self.left = [Resident(number, "x") for number in range(1, 8)]
        ended = self.serve("sh", "-c", "exit 7")
        self.assertEqual(
            self.open(),
            {"name": "nano0", "mtu": 1400, "vnetHeader": 10, "notes": ["a note.", "logged."]},
        )
        self.assertEqual(self.routed, ["nano0"])
        self.channel.send(run=True)
        self.assertEqual(
            self.receive(),
            {"ended": 7, "left": [f"x (pid {number})" for number in range(1, 6)], "leftMore": 2},
        )
        self.assertEqual(self.opener.devices, {})
        ended()

    def test_signal(self) -> None:
        """Signals are forwarded, and replaced files are mounted again meanwhile."""
        ended = self.serve("sleep", "60")
        self.open()
        self.channel.send(run=True)
        while not self.mounts.repairs:
            pass
        self.channel.send(signal=signal.SIGTERM)
        self.assertEqual(self.receive()["ended"], 128 + signal.SIGTERM)
        ended()

    def test_busy(self) -> None:
        """Replaced files are mounted again while nanotun asks for sockets all the time."""
        for _ in range(2):
            self.channel.send(make=[ASKING])
        self.helper._waitForNews(cast(Any, None))
        self.helper._repairTime += 3600
        self.helper._waitForNews(cast(Any, None))
        self.assertEqual(self.mounts.repairs, 1)
        for _ in range(2):
            self.assertEqual(self.receive(), {"made": 0})

    def test_failures(self) -> None:
        """A failed mount is reported."""
        self.mounts.failure = RoutingError("no mounts.")
        ended = self.serve("true")
        self.assertEqual(self.receive(), {"failed": "no mounts."})
        ended()

    def test_explained(self) -> None:
        """What is reported is the sentence that explains the error."""
        self.helper._explain = lambda error: f"not {error}"
        self.opener.failure = DeviceError("so.")
        ended = self.serve("true")
        self.assertEqual(self.open(), {"failed": "not so."})
        ended()

    def test_noDevice(self) -> None:
        """A device that cannot be made is reported."""
        self.opener.failure = DeviceError("no device.")
        ended = self.serve("true")
        self.assertEqual(self.open(), {"failed": "no device."})
        ended()

    def test_noRoutes(self) -> None:
        """Routes that cannot be set are reported, and the device is closed."""

        def fail(device: str) -> None:
            raise RoutingError("no routes.")

        self.helper._route = fail
        ended = self.serve("true")
        self.assertEqual(self.open(), {"failed": "no routes."})
        self.assertEqual(self.opener.devices, {})
        ended()

    def test_noCommand(self) -> None:
        """A command that cannot be started is reported with its exit status."""
        ended = self.serve("/no/such/command")
        self.open()
        self.channel.send(run=True)
        message = self.receive()
        self.assertEqual(message["status"], 127)
        self.assertIn("/no/such/command: command not found", message["failed"])
        ended()

    def test_nanotunGone(self) -> None:
        """When nanotun ends, every process in the cell is ended."""
        ends: list[int] = []
        started: list[subprocess.Popen[bytes]] = []

        def endAll(find: object) -> list[Resident]:
            ends.append(1)
            started[0].kill()
            return []

        self.patch(helper, "endAll", endAll)

        def start(*arguments: Any) -> Any:
            made = startCommand(*arguments)
            started.append(made)
            return made

        self.patch(helper, "startCommand", start)
        ended = self.serve("sleep", "60")
        self.open()
        self.channel.send(run=True)
        while not started:
            pass
        ended()
        self.assertEqual(ends, [1])
        self.assertEqual(started[0].wait(10), -signal.SIGKILL)


class DeafTests(SynchronousTestCase):
    """L{helper.beDeaf}."""

    def test_handlers(self) -> None:
        """The helper ignores signals, the command does not; those ignored before stay ignored."""
        code = (
            "import os, signal, subprocess, sys\n"
            "from nanotun.cell.command import SIGNALS\n"
            "from nanotun.cell.helper import beDeaf\n"
            "for number in SIGNALS: signal.signal(number, signal.SIG_DFL)\n"
            "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)\n"
            "beDeaf()\n"
            "for number in SIGNALS: os.kill(os.getpid(), number)\n"
            "subprocess.run(['grep', 'Sig[BI]', '/proc/self/status'])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        blocked, ignored = (int(line.split()[1], 16) for line in done.stdout.splitlines())
        self.assertEqual(blocked, 0)
        self.assertEqual(ignored & 0x7FFFFFFF, 1 << signal.SIGHUP - 1)
        self.assertIn(signal.SIGHUP, SIGNALS)


class CellTests(SynchronousTestCase):
    """L{Cell}, with a program in place of unshare(1)."""

    def cell(self, script: str, wholeFirst: bool = False, rootless: bool = False) -> Cell:
        """A cell whose unshare is a shell script, called with the arguments after the options."""
        program = Path(self.mktemp()).resolve()
        program.write_text(f"#!/bin/sh\n{'' if rootless else 'shift 4'}\n{script}\n")
        program.chmod(0o755)
        argv = ["the", "command"]
        cell = Cell(
            argv,
            None,
            "the.module",
            {"A": "b"},
            str(program),
            wholeFirst,
            rootless,
            Refusals(str(self.mktemp())),
        )
        self.addCleanup(cell.end)
        return cell

    def reason(self, cell: Cell) -> str:
        """The error of a cell that must not become ready."""
        return str(self.assertRaises(RoutingError, cell.ready))

    def test_refused(self) -> None:
        """The error quotes unshare in a sentence about containers."""
        text = self.reason(self.cell("echo 'unshare: unshare failed: Not permitted' >&2; exit 1"))
        self.assertEqual(
            text,
            "the command cannot get a network of its own (unshare failed: Not permitted); "
            "in a container, give it CAP_SYS_ADMIN, for instance by --privileged.",
        )

    def test_rootless(self) -> None:
        """An ordinary user's cell is in a user namespace, and the error is about that."""
        text = self.reason(self.cell('echo "unshare: $1 $2 $3 $4 $5" >&2; exit 1', rootless=True))
        self.assertTrue(
            text.startswith(
                "an ordinary user gets no network for a command here (--user --map-current-user "
                "--keep-caps --net --mount, "
            ),
            text,
        )

    def test_silent(self) -> None:
        """The error for an unshare that ends silently is a whole sentence, too."""
        self.assertIn("(no word from its process)", self.reason(self.cell("exit 1")))

    def test_environment(self) -> None:
        """The helper has the given environment only, which a command of root's can read."""
        for name in HIDDEN:
            self.patch(os, "environ", {**os.environ, name: "socks5://ann:hunter2@h"})
        reason = self.reason(self.cell('echo "unshare: $A $(env | grep -c hunter2)" >&2; exit 1'))
        self.assertIn("(b 0)", reason)

    def test_noProgram(self) -> None:
        """A missing unshare is an error that names its package; a broken one is an error, too."""
        error = self.assertRaises(RoutingError, Cell, ["x"], None, "m", {}, "")
        self.assertIn("the program unshare is missing; install the package util-linux", str(error))
        error = self.assertRaises(RoutingError, Cell, ["x"], None, "m", {}, "/no/unshare")
        self.assertIn("/no/unshare does not start (No such file or directory)", str(error))

    def test_helper(self) -> None:
        """The helper gets channel and command, and imports no module from the directory."""
        place = Path(self.mktemp()).resolve()
        place.mkdir()
        Path(place, "json.py").write_text("raise SystemExit('taken from the directory')\n")
        code = (
            "import sys, json, socket\n"
            "about = json.loads(sys.argv[1])\n"
            "from nanotun.cell.channel import Channel\n"
            "c = Channel(socket.socket(fileno=about['channel']))\n"
            "c.send(hello=1); del about['channel'], about['stderr']\n"
            "c.send(argv=sys.argv[2:], about=about); c.receive()\n"
        )
        self.patch(launch, "BOOT", BOOT.partition("import {0}")[0] + code)
        here = os.getcwd()
        os.chdir(place)
        try:
            cell = self.cell('exec "$@"', wholeFirst=True)
            cell.ready()
        finally:
            os.chdir(here)
        message, _ = cell.channel.receive(10)
        about = {"user": None, "wholeFirst": True, "rootless": False}
        self.assertEqual(message, {"argv": ["the", "command"], "about": about})
        self.assertEqual(cell._process.poll(), None)
        cell.end()
        self.assertNotEqual(cell._process.poll(), None)
        cell.end()
        self.assertRaises(ChannelClosed, cell.channel.receive)

    def test_byteCode(self) -> None:
        """The helper writes byte code only if this process does."""
        code = (
            "import json, socket\n"
            "about = json.loads(sys.argv[1])\n"
            "from nanotun.cell.channel import Channel\n"
            "c = Channel(socket.socket(fileno=about['channel']))\n"
            "c.send(hello=1); c.send(silent=sys.dont_write_bytecode); c.receive()\n"
        )
        self.patch(launch, "BOOT", BOOT.partition("import {0}")[0] + code)
        for silent in (True, False):
            self.patch(sys, "dont_write_bytecode", silent)
            cell = self.cell('exec "$@"')
            cell.ready()
            self.assertEqual(cell.channel.receive(10)[0], {"silent": silent})
            cell.end()
