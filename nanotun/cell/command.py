"""
The command in a cell: how it is started, and what its end means as an exit status.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nanotun.cell.capabilities import dropAll

#: Exit statuses as in shells and env(1); lower ones are the command's own.
OWN_FAULT = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
SIGNAL_BASE = 128

#: Variables that may hold a proxy's password, or name a file with it, which the command must not
#: see: all of L{nanotun.config.secretfiles.FILE_VARIABLES}, which the helper need not import.
HIDDEN = (
    "NANOTUN_PROXY",
    "NANOTUN_PROXY_FILE",
    "NANOTUN_PROXY_PASSWORD",
    "NANOTUN_PROXY_PASSWORD_FILE",
    "NANOTUN_UPSTREAMS",
    "NANOTUN_UPSTREAMS_FILE",
)

#: Variables that would send the command to a proxy by itself, whatever the case of their names.
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

#: Signals that a terminal or a user sends to a command.  SIGTSTP and SIGCONT keep their
#: default action: the terminal sends them to every process of the group.
SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class CommandUser(NamedTuple):
    """
    The user that the command runs as.

    @ivar groups: the ids of all the user's groups.
    @ivar variables: environment variables that depend on the user.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    variables: Mapping[str, str]


class CommandFailed(Exception):
    """
    The command could not be started.

    @ivar status: the exit status for nanotun.
    """

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def visible(environment: Mapping[str, str], keepProxies: bool) -> dict[str, str]:
    """
    The command's part of an environment: without L{HIDDEN}, and without
    L{PROXY_VARIABLES} unless C{keepProxies}.
    """
    return {
        name: value
        for name, value in environment.items()
        if name not in HIDDEN and (keepProxies or name.lower() not in PROXY_VARIABLES)
    }


def startCommand(
    argv: Sequence[str], user: CommandUser | None, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """
    Start the command with this process's standard streams, process group and inheritable
    file descriptors: to a terminal, the user might have started it directly.

    @param argv: the program and its arguments.
    @param user: L{None} for this process's own user.
    @param environment: this process's environment.
    @raise CommandFailed: it cannot be started; with one sentence.
    """
    # Only root can change users, and everybody else has a user namespace of its own.
    isRoot = os.geteuid() == 0
    variables = {key: value for key, value in environment.items() if key not in HIDDEN}
    extra: dict[str, object] = {}
    if user is not None:
        variables.update(user.variables)
    if not isRoot:
        extra = {"preexec_fn": dropAll}
    elif user is not None:
        extra = {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)}
    try:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            list(argv), env=variables, close_fds=False, **extra
        )
    except OSError as error:
        raise _failure(argv[0], error) from None


def _failure(name: str, error: OSError) -> CommandFailed:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        # A script whose #! interpreter is missing fails with the same error.
        if "/" in name and os.path.exists(name):
            return CommandFailed(
                f"{name}: its interpreter is missing; look at the first line of that file.",
                NOT_FOUND,
            )
        return CommandFailed(f"{name}: command not found; check its name and PATH.", NOT_FOUND)
    if error.errno == errno.E2BIG:
        return CommandFailed(f"{name}: the arguments are too long for the kernel.", NOT_EXECUTABLE)
    return CommandFailed(
        f"{name}: it cannot be executed ({error.strerror}); check its mode and its directory's.",
        NOT_EXECUTABLE,
    )


def statusOf(returncode: int) -> int:
    """
    The exit status that a shell would report.

    @param returncode: that of L{subprocess.Popen}: negative for a signal.
    """
    return SIGNAL_BASE - returncode if returncode < 0 else returncode
