"""
The script of C{nanotun run}: root's runs in nanotun, anybody else's in a process that has its
owner's rights and no others.  Where nanotun is run by an ordinary user, that user's own runs in
nanotun, too.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.protocol import Factory

from nanotun.cell.command import CommandUser
from nanotun.cell.launch import BOOT, isolated
from nanotun.cell.users import findUser
from nanotun.console.run.options import RunOptions
from nanotun.daemon.scripts import scriptFor, scriptOptions
from nanotun.errors import ConfigError
from nanotun.linux.users import nameOf
from nanotun.scripting.apart import RemoteScript, logFor
from nanotun.scripting.safety import writersOf
from nanotun.scripting.script import Script, ScriptOptions
from nanotun.scripting.served import LINE_LIMIT, Hello, Lines

#: Seconds for the process to import the script and call C{start}.
READY_LIMIT = 10.0

#: Seconds for the process to end by itself once the channel is closed.
END_LIMIT = 2.0

#: Seconds to wait for the status of a process that has closed the channel: it ends just then.
STATUS_LIMIT = 0.2

#: The variables that the process is given, beside those that depend on its user.
KEPT = ("PATH", "LANG", "LANGUAGE", "TZ")

HELPER = "nanotun.console.run.scripthelper"


class RunScript:
    """
    The script of one run, if its settings have one.

    @param say: shows a sentence to the user.
    """

    def __init__(self, options: RunOptions, reactor: Any, say: Callable[[str], None]) -> None:
        """
        Begin to load it, if that takes a process.

        @raise ConfigError: it cannot be read, or the wrong users can write it; with one sentence.
        """
        self._settings = settings = options.settings
        self._reactor = reactor
        self._process: ScriptProcess | None = None
        if not settings.script:
            return
        path = os.path.abspath(settings.script)
        command = os.geteuid() if options.user is None else options.user.uid
        caller = os.geteuid()
        uid = whoRuns(path, command, writersOf(path, f"The script {path}"), caller)
        if uid not in (0, caller):
            user = ownerOf(path, uid)
            environment = environmentOf(user, os.environ)
            self._process = ScriptProcess(path, user, scriptOptions(settings), environment)
        elif command == uid:
            instead = (
                "keep it where only root can write, such as /etc/nanotun"
                if uid
                else "-u USER has it run as somebody who cannot"
            )
            say(
                f"COMMAND runs as {nameOf(uid)}, who can change the script {path} for the next "
                f"time; {instead}."
            )

    def ready(self) -> Script | RemoteScript | None:
        """
        Wait until the script is loaded.

        @raise ConfigError: it cannot be; with one sentence.
        """
        if self._process is not None:
            return self._process.ready(self._reactor)
        if self._settings.script:
            # What it prints is none of COMMAND's output.
            sys.stdout = sys.stderr
        return scriptFor(self._settings, self._reactor, trusted=(os.geteuid(),))

    def end(self) -> None:
        """End its process."""
        if self._process is not None:
            self._process.end()


def whoRuns(path: str, command: int, writers: Mapping[int, str], caller: int = 0) -> int:
    """
    The user whose rights a script gets.

    @param command: the user that the command runs as.
    @param writers: the users besides root who can write the script; see L{writersOf}.
    @param caller: the user that nanotun runs as, who can give the script no other's rights than
        its own unless that is root.
    @raise ConfigError: they are several, or the command could change the script.
    """
    names = ", ".join(map(nameOf, writers))
    elsewhere = "keep it where only root can write, such as /etc/nanotun"
    if len(writers) > 1:
        raise ConfigError(
            f"The script {path} can be written by several users ({names}); keep it where only root "
            "or one user can."
        )
    if caller != 0:
        if not writers or caller in writers:
            return next(iter(writers), 0)
        raise ConfigError(
            f"The script {path} can be written by {names}, and only root could run it with "
            f"such rights; {elsewhere}, or have one of your own."
        )
    if command in writers:
        raise ConfigError(
            f"The script {path} can be written by {names}, as whom COMMAND runs, so COMMAND could "
            f"change what it may do; {elsewhere}, or run COMMAND as another user (-u)."
        )
    if writers and command == 0:
        raise ConfigError(
            f"The script {path} can be written by {names}, but COMMAND runs as root and could "
            f"change it as well; run COMMAND as another user (-u), or {elsewhere}."
        )
    return next(iter(writers), 0)


def ownerOf(path: str, uid: int) -> CommandUser:
    """
    The user of a script's process.

    @raise ConfigError: the machine does not know that number.
    """
    try:
        return findUser(str(uid))
    except ConfigError:
        raise ConfigError(
            f"The script {path} belongs to the user {uid}, whom this machine does not know; run "
            f"'chown root {path}'."
        ) from None


def environmentOf(user: CommandUser, ours: Mapping[str, str]) -> dict[str, str]:
    """
    The environment of a script's process: nothing of C{ours} that could be a secret, and the
    user's session if there is one, so that the script can show a notification there.
    """
    kept = {k: v for k, v in ours.items() if k in KEPT or k.startswith("LC_")}
    session = f"/run/user/{user.uid}"
    if os.path.exists(f"{session}/bus"):
        kept["XDG_RUNTIME_DIR"] = session
        kept["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={session}/bus"
    return {**kept, **user.variables}


class ScriptProcess:
    """
    A process with a script that is not root's.

    @ivar pid: its number.
    """

    def __init__(
        self, path: str, user: CommandUser, options: ScriptOptions, environment: Mapping[str, str]
    ) -> None:
        """
        Start it, without waiting for it.

        @param path: the script's.
        @param user: whose rights it gets.
        @raise ConfigError: it cannot be started.
        """
        self._path = path
        self._options = options
        self._channel, theirs = socket.socketpair()
        about = {
            "channel": theirs.fileno(),
            "path": path,
            "user": user._asdict(),
            "timeout": options.timeout,
            "onError": options.onError,
            "names": {name: sorted(fields) for name, fields in options.names.items()},
        }
        search = "\n".join(entry for entry in sys.path if entry)
        python = [sys.executable, *isolated(), "-u"]
        try:
            # No terminal, and no signals of it; what the script prints is none of COMMAND's output.
            self._process = subprocess.Popen(
                [*python, "-c", BOOT.format(HELPER), search, json.dumps(about)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=dict(environment),
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            self._channel.close()
            raise ConfigError(
                f"The process of the script {path} cannot be started ({error.strerror}); look at "
                "the limits of processes and of memory."
            ) from None
        finally:
            theirs.close()
        self.pid = self._process.pid

    def ready(self, reactor: Any) -> RemoteScript:
        """
        Wait until it has loaded the script.

        @raise ConfigError: it has not; with one sentence.
        """
        hello, rest = self._hello()

        def connect(lines: Lines) -> None:
            factory = Factory.forProtocol(lambda: lines)  # type: ignore[arg-type]
            reactor.adoptStreamConnection(self._channel.fileno(), socket.AF_UNIX, factory)
            if rest:
                lines.dataReceived(rest)

        return RemoteScript(self._path, hello, self._options, reactor, connect, self._why)

    def end(self) -> None:
        """End it."""
        with suppress(OSError):
            # Whoever else has a descriptor of it.
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        try:
            self._process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hello(self) -> tuple[Hello, bytes]:
        """What it says of the script, and what it said after that."""
        deadline = time.monotonic() + READY_LIMIT
        said = b""
        while True:
            while b"\n" not in said:
                said += self._receive(deadline)
            line, _, said = said.partition(b"\n")
            message = json.loads(line)
            if "log" in message:
                logFor(message)
            elif "error" in message:
                raise ConfigError(str(message["error"]))
            else:
                return Hello(**{each: bool(message[each]) for each in Hello._fields}), said

    def _receive(self, deadline: float) -> bytes:
        self._channel.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self._channel.recv(LINE_LIMIT)
        except TimeoutError:
            raise ConfigError(
                f"The script {self._path} was not ready within {READY_LIMIT:g} s; it must not wait "
                "at the top of the file or in start."
            ) from None
        except OSError:
            data = b""
        if not data:
            why = self._why()
            raise ConfigError(
                f"The process of the script {self._path} ended before the script was imported"
                f"{f' ({why})' if why else ''}."
            )
        return data

    def _why(self) -> str:
        try:
            status = self._process.wait(STATUS_LIMIT)
        except subprocess.TimeoutExpired:
            return ""
        return f"signal {-status}" if status < 0 else f"status {status}"
