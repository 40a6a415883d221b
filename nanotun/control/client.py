"""
Sends requests to the daemon on its control socket.  Blocking, for the commands.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from nanotun.control.lock import findHolder
from nanotun.control.messages import NO_RESPONSE, RESPONSE_LIMIT, readResponse, requestLine
from nanotun.errors import NotRunning, RunningError
from nanotun.rundir import JOURNAL, SOCKET, command

#: Seconds for one answer.  A busy daemon takes milliseconds, but a reload may have to
#: look something up.
TIMEOUT = 10.0


class Client:
    """
    One connection to the daemon.

    @ivar pid: the daemon's process id.
    """

    def __init__(self, runDir: str, timeout: float = TIMEOUT) -> None:
        """
        Connect.

        @param runDir: the directory of the daemon's lock and socket.
        @param timeout: seconds for each answer.
        @raise NotRunning: no daemon runs there.
        @raise RunningError: one runs but cannot be asked, or another user answers in its
            place; with one sentence.
        """
        self.pid = 0
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._connect(runDir)
            credentials = self._socket.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            self.pid, uid, _ = struct.unpack("3i", credentials)
        except PermissionError:
            self._socket.close()
            raise RunningError(
                f"Only root may ask the nanotun of {runDir}; try it again with sudo."
            ) from None
        except OSError as error:
            self._socket.close()
            raise _absent(runDir, error) from None
        if uid not in (0, os.geteuid()):
            self._socket.close()
            raise RunningError(
                f"{runDir}/{SOCKET} is not trusted, because it is served by the user with the "
                f"number {uid}; only root may."
            )

    def _connect(self, runDir: str) -> None:
        # Through the directory's descriptor, as the path may be too long for a socket.
        directory = os.open(runDir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.connect(f"/proc/self/fd/{directory}/{SOCKET}")
        finally:
            os.close(directory)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """
        Send one request and wait for its answer.

        @return: the result, a JSON value.
        @raise RunningError: the answer is an error, or does not arrive; with one sentence.
        """
        try:
            with contextlib.suppress(BrokenPipeError):
                # A refused peer gets its answer before it asks; it is read below.
                self._socket.sendall(requestLine(name, arguments) + b"\n")
            while b"\n" not in self._buffer:
                data = self._socket.recv(65536)
                if not data:
                    raise RunningError("The daemon hung up without an answer; it may be stopping.")
                self._buffer += data
                if len(self._buffer) > RESPONSE_LIMIT:
                    raise RunningError(NO_RESPONSE)
        except TimeoutError:
            raise RunningError(
                f"The daemon (process {self.pid}) does not answer within "
                f"{self._socket.gettimeout():g} s; see its log."
            ) from None
        except OSError as error:
            raise RunningError(f"The daemon cannot be asked ({error.strerror}).") from None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return readResponse(line)


def notRunning(runDir: str) -> NotRunning:
    """The error for a C{runDir} without a daemon; a journal in it is left from a crash."""
    sentence = f"No nanotun runs with runDir {runDir}."
    if os.path.exists(os.path.join(runDir, JOURNAL)):
        sentence += (
            " One that was killed has left changes on this machine: "
            f"'{command('recover', runDir)}' takes them back, and so does the next start."
        )
    return NotRunning(sentence)


def _absent(runDir: str, error: OSError) -> RunningError:
    """The error for a socket that does not accept connections."""
    holder = findHolder(runDir)
    if holder is None:
        return notRunning(runDir)
    return RunningError(
        f"nanotun runs {holder.describe()}, but cannot be asked by {runDir}/{SOCKET} "
        f"({error.strerror}); its log says why."
    )
