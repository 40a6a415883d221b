"""
The helper: it lives in the cell, makes it what it is, and starts the command there.

The order: mounts, then the device when nanotun asks for it, then the command when
nanotun says that the tunnel is up.  When the command ends, so does everything that it
left behind; when nanotun ends, so does the command.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from nanotun.cell.channel import Channel, ChannelClosed
from nanotun.cell.command import (
    SIGNALS,
    CommandFailed,
    CommandUser,
    startCommand,
    statusOf,
)
from nanotun.cell.leftovers import Resident, endAll, namespaceOf, residents
from nanotun.cell.mounts import CellMounts
from nanotun.errors import NanotunError
from nanotun.interfaces import ITunOpener

#: Seconds between two looks at the files that the machine may have replaced.
REPAIR_INTERVAL = 1.0

#: Processes of the command's that are named to the user; the others are counted.
NAMED_LIMIT = 5


class Helper:
    """
    Serves one cell to its end.

    @param opener: makes the device, in this process's namespace.
    @param route: brings the loopback up and routes all through the device, by name.
    @param notes: what was logged since the last call, for nanotun to say.
    """

    def __init__(
        self,
        channel: Channel,
        opener: ITunOpener,
        mounts: CellMounts,
        route: Callable[[str], None],
        notes: Callable[[], list[str]],
    ) -> None:
        self._channel = channel
        self._opener = opener
        self._mounts = mounts
        self._route = route
        self._notes = notes
        # The native library raises it for itself, and children inherit it.
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def serve(
        self, argv: Sequence[str], user: CommandUser | None, environment: Mapping[str, str]
    ) -> None:
        """
        Do all of it.

        @param argv: the command.
        """
        try:
            self._channel.send(hello=os.getpid())
            try:
                self._openDevice(self._mounts.apply())
                self._channel.receive()
                self._run(argv, user, environment)
            except NanotunError as error:
                self._channel.send(failed=str(error))
            except CommandFailed as error:
                self._channel.send(failed=str(error), status=error.status)
            # An end that is closed with words unread takes its own last words along.
            while True:
                self._channel.receive()
        except ChannelClosed:
            return

    def _openDevice(self, notes: list[str]) -> None:
        message, _ = self._channel.receive()
        name, mtu, offload = message["open"]
        device = self._opener.open(name, mtu, offload)
        try:
            self._route(device.name)
            self._channel.send(
                device.fileno(),
                name=device.name,
                mtu=device.mtu,
                vnetHeader=device.vnetHeader,
                notes=notes + self._notes(),
            )
        finally:
            # The device has to end with nanotun, not with us.
            device.close()

    def _run(
        self, argv: Sequence[str], user: CommandUser | None, environment: Mapping[str, str]
    ) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
        command = startCommand(argv, user, environment)
        # The terminal's, in the moment when nanotun took it for the command's already.
        for number in tuple(_early):
            command.send_signal(number)
        try:
            while command.poll() is None:
                self._waitForNews(command)
        finally:
            # Whatever ended us ends the command, too.
            left = self._endResidents()
        self._channel.send(
            ended=statusOf(command.returncode),
            left=[f"{each.name} (pid {each.pid})" for each in left[:NAMED_LIMIT]],
            leftMore=max(0, len(left) - NAMED_LIMIT),
        )

    def _waitForNews(self, command: subprocess.Popen[bytes]) -> None:
        channel = self._channel.fileno()
        ready, _, _ = select.select([channel, self._wakeup], [], [], REPAIR_INTERVAL)
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
            self._stopAlong(command.pid)
        if channel in ready:
            message, _ = self._channel.receive()
            # Popen sends nothing to a pid that it has waited for.
            command.send_signal(message["signal"])
        if not ready:
            # What fails now is tried again in a second.
            with contextlib.suppress(NanotunError, OSError, subprocess.TimeoutExpired):
                self._mounts.repair()

    def _stopAlong(self, pid: int) -> None:
        """
        A shell that stops itself (suspend in bash) has a process group of its own: then
        ours has to stop too, or the shell that nanotun was started from would not know.
        """
        # One that has ended is no longer anybody to ask about.
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            stopped = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            if stopped is not None and os.getpgid(pid) != os.getpgrp():
                os.killpg(os.getpgrp(), signal.SIGTSTP)
                # We go on here when somebody continues us.
                _giveTerminal(os.getpgid(pid))
                os.kill(pid, signal.SIGCONT)

    def _endResidents(self) -> list[Resident]:
        here = namespaceOf()
        return endAll(lambda: residents(here, (os.getpid(),))) if here else []


def _giveTerminal(group: int) -> None:
    """Make a process group the terminal's, if ours is now (tcsetpgrp(3))."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.tcgetpgrp(terminal) == os.getpgrp():
                os.tcsetpgrp(terminal, group)
        finally:
            os.close(terminal)


#: Signals that this process has got itself.
_early: set[int] = set()


def _ignore(number: int, frame: object) -> None:
    """For signals that are the command's to act on: unlike SIG_IGN it ends at exec."""
    if number in SIGNALS:
        _early.add(number)


def beDeaf() -> None:
    """
    Leave signals to the command, but for those that are ignored already: they were
    so when nanotun was started (nohup(1)), and stay so for the command.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ignore)
    # nanotun blocks them, to be told who sent them; so did we, from our birth.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
