"""
Starts the helper in namespaces of its own, with unshare(1).

It is a child with exec rather than a bare fork, because the packet engine's threads do
not survive a fork, and Python has unshare(2) only since 3.12.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from nanotun.cell.channel import ChannelClosed, makePair
from nanotun.cell.command import CommandUser
from nanotun.cell.leftovers import endAll, namespaceOf, residents
from nanotun.cell.mounts import findTool
from nanotun.cell.refusals import Refusals
from nanotun.errors import RoutingError

#: The program of the helper's Python.  It is isolated (-I), because root runs it in
#: anybody's directory: no module may come from there or from PYTHONPATH.  The search path
#: is the one of this process.
BOOT = "import sys; sys.path[:] = sys.argv.pop(1).split(chr(10)); import {0}; {0}.main()"

#: What unshare(1) makes, and for an ordinary user first: a user namespace, in which that user's
#: number stays what it is, and the helper may do to the others what root may.
NAMESPACES = ("--net", "--mount", "--propagation", "slave")
USER_NAMESPACE = ("--user", "--map-current-user", "--keep-caps")

#: Seconds for the helper to end by itself: it takes a second to end the processes that
#: the command left behind.
END_LIMIT = 5.0


def isolated() -> list[str]:
    """
    Options of the helper's Python, which writes byte code only if this process does.
    """
    return ["-I", "-B"] if sys.dont_write_bytecode else ["-I"]


class Cell:
    """
    A cell and the helper in it.

    @ivar channel: to the helper.
    """

    def __init__(
        self,
        argv: Sequence[str],
        user: CommandUser | None,
        module: str,
        environment: Mapping[str, str],
        unshare: str | None = None,
        wholeFirst: bool = False,
        rootless: bool = False,
        refusals: Refusals | None = None,
    ) -> None:
        """
        Start to make the cell, without waiting for it.

        @param argv: the command and its arguments.
        @param user: whom it runs as; L{None} for this process's user.
        @param module: name of the module with the helper's C{main}.
        @param environment: the helper's, which it passes on to the command; from
            L{nanotun.cell.command.visible}, because the command could read it, if it runs as
            root.
        @param unshare: path of unshare(1); looked up by default.
        @param wholeFirst: see L{nanotun.cell.naming.resolvConf}.
        @param rootless: whether this process's user is not root.
        @param refusals: finds the reason if the kernel forbids that.
        @raise RoutingError: it cannot be started; with one sentence.
        """
        self._refusals = (refusals or Refusals()) if rootless else None
        program = findTool("unshare") if unshare is None else unshare
        if not program:
            raise RoutingError("the program unshare is missing; install the package util-linux.")
        self.channel, theirs = makePair()
        # unshare writes its errors here, to become part of one of our sentences; the
        # helper is passed the real stderr as well.
        self._words: IO[bytes] = os.fdopen(os.memfd_create("words"), "w+b")
        stderr = os.dup(2)
        os.set_inheritable(stderr, True)
        theirs.set_inheritable(True)
        about = json.dumps({
            "channel": theirs.fileno(),
            "stderr": stderr,
            "user": None if user is None else user._asdict(),
            "wholeFirst": wholeFirst,
            "rootless": rootless,
        })  # fmt: skip
        path = "\n".join(entry for entry in sys.path if entry)
        python = [sys.executable, *isolated(), "-c", BOOT.format(module), path, about]
        try:
            self._process = subprocess.Popen(
                [program, *(USER_NAMESPACE if rootless else ()), *NAMESPACES, *python, *argv],
                stderr=self._words,
                close_fds=False,
                env=environment,
            )
        except OSError as error:
            self.channel.close()
            raise RoutingError(
                f"the command's network cannot be made: {program} does not start "
                f"({error.strerror}); check the length of the command line and free memory."
            ) from None
        finally:
            theirs.close()
            os.close(stderr)
        self._namespace: tuple[int, int] | None = None

    def ready(self) -> None:
        """
        Wait until the helper runs in its namespaces.

        @raise RoutingError: it failed to; with one sentence.
        """
        try:
            self.channel.receive(END_LIMIT * 4)
        except (ChannelClosed, TimeoutError):
            raise RoutingError(self._why()) from None
        here = namespaceOf(self._process.pid)
        # Never this process's own namespace, whatever unshare did.
        self._namespace = None if here == namespaceOf() else here

    def _why(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT)
        self._words.seek(0)
        words = " ".join(self._words.read(2000).decode("utf-8", "replace").split())
        words = words.rpartition("unshare: ")[2] or "no word from its process"
        if self._refusals is not None:
            return self._refusals.ofNamespaces(words)
        return (
            f"the command cannot get a network of its own ({words}); in a container, give it "
            "CAP_SYS_ADMIN, for instance by --privileged."
        )

    def end(self) -> None:
        """
        End the helper and every process in the cell.  May be called twice.
        """
        self.channel.close()
        try:
            self._process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()
        if self._namespace is not None:
            namespace, self._namespace = self._namespace, None
            # There are none left unless the helper was killed.
            endAll(lambda: residents(namespace))
