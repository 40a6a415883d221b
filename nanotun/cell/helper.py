"""
The helper: it runs in the cell, sets it up, and starts the command there.

The order is: mounts; the device, when nanotun asks for it; the command, when nanotun
reports that the tunnel is up.  Sockets are made whenever nanotun asks for them.  When the
command ends, the helper ends every process that it left behind; when nanotun ends, the
helper ends the command.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import time
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
from nanotun.cell.ports import SocketMakers
from nanotun.errors import NanotunError
from nanotun.interfaces import ITunOpener

#: Seconds between two checks of the files that the machine may have replaced.
REPAIR_INTERVAL = 1.0

#: How many of the command's remaining processes are named to the user; the rest are counted.
NAMED_LIMIT = 5


class Helper:
    """
    Serves one cell until its end.

    @param channel: to nanotun.
    @param opener: makes the device, in this process's namespace.
    @param mounts: the command's own files.
    @param route: takes the device's name, brings the loopback up and routes everything else
        through the device.
    @param notes: returns what was logged since its last call, for nanotun to log.
    @param explain: the sentence for an error.
    """

    def __init__(
        self,
        channel: Channel,
        opener: ITunOpener,
        mounts: CellMounts,
        route: Callable[[str], None],
        notes: Callable[[], list[str]],
        explain: Callable[[NanotunError], str] = str,
    ) -> None:
        self._channel = channel
        self._makers = SocketMakers(channel)
        self._opener = opener
        self._mounts = mounts
        self._route = route
        self._notes = notes
        self._explain = explain
        # The native library raises this limit for itself, and children would inherit that.
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._repairTime = 0.0
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def serve(
        self, argv: Sequence[str], user: CommandUser | None, environment: Mapping[str, str]
    ) -> None:
        """
        Set up the cell, run the command, and wait for nanotun to close the channel.

        @param argv: the command and its arguments.
        @param user: whom it runs as; L{None} for this process's user.
        @param environment: the command's, apart from the variables of C{user}.
        """
        try:
            self._channel.send(hello=os.getpid())
            try:
                self._openDevice(self._mounts.apply())
                while self._makers.answer(self._channel.receive()[0]):
                    pass
                self._run(argv, user, environment)
            except NanotunError as error:
                self._channel.send(failed=self._explain(error))
            except CommandFailed as error:
                self._channel.send(failed=str(error), status=error.status)
            # If this end closed with unread messages, the kernel would discard what it sent.
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
            # Only nanotun may keep the device open: it must disappear with nanotun.
            device.close()

    def _run(
        self, argv: Sequence[str], user: CommandUser | None, environment: Mapping[str, str]
    ) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
        command = startCommand(argv, user, environment)
        # The terminal sent these before the command ran; nanotun left them to the command.
        for number in tuple(_early):
            command.send_signal(number)
        try:
            while command.poll() is None:
                self._waitForNews(command)
        finally:
            # Even on an error, end the command and its processes.
            left = self._endResidents()
        self._channel.send(
            ended=statusOf(command.returncode),
            left=[f"{each.name} (pid {each.pid})" for each in left[:NAMED_LIMIT]],
            leftMore=max(0, len(left) - NAMED_LIMIT),
        )

    def _waitForNews(self, command: subprocess.Popen[bytes]) -> None:
        channel = self._channel.fileno()
        left = max(0.0, self._repairTime - time.monotonic())
        ready, _, _ = select.select([channel, self._wakeup], [], [], left)
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
            self._stopAlong(command.pid)
        if channel in ready:
            message, _ = self._channel.receive()
            if not self._makers.answer(message):
                # Popen sends nothing to a process that it has already waited for.
                command.send_signal(message["signal"])
        # Also while there is always something else to do.
        if time.monotonic() >= self._repairTime:
            self._repairTime = time.monotonic() + REPAIR_INTERVAL
            # If it fails now, it is tried again in a second.
            with contextlib.suppress(NanotunError, OSError, subprocess.TimeoutExpired):
                self._mounts.repair()

    def _stopAlong(self, pid: int) -> None:
        """
        Stop this process group if the command stopped itself in a group of its own, as bash
        does for C{suspend}: otherwise the shell that started nanotun would not notice.
        """
        # The command may have ended meanwhile.
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            stopped = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            if stopped is not None and os.getpgid(pid) != os.getpgrp():
                os.killpg(os.getpgrp(), signal.SIGTSTP)
                # Execution resumes here after a SIGCONT.
                _giveTerminal(os.getpgid(pid))
                os.kill(pid, signal.SIGCONT)

    def _endResidents(self) -> list[Resident]:
        here = namespaceOf()
        return endAll(lambda: residents(here, (os.getpid(),))) if here else []


def _giveTerminal(group: int) -> None:
    """Move the terminal from this process group to another, if it is there (tcsetpgrp(3))."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.tcgetpgrp(terminal) == os.getpgrp():
                os.tcsetpgrp(terminal, group)
        finally:
            os.close(terminal)


#: Signals that this process has received itself.
_early: set[int] = set()


def _ignore(number: int, frame: object) -> None:
    """Leave a signal to the command.  Unlike SIG_IGN, a handler is not inherited by exec."""
    if number in SIGNALS:
        _early.add(number)


def beDeaf() -> None:
    """
    Leave signals to the command.  One that is already ignored, because nanotun was
    started that way (nohup(1)), stays ignored, also for the command.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ignore)
    # nanotun blocks them to learn who sent them, and this process inherited the mask.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
