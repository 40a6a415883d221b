"""
The process that owns the flow of C{nanotun explain}: either described in words, or a
running one; and what the daemon's own scan says of it.
"""

from __future__ import annotations

import re
import time

from twisted.python import usage

from nanotun.config.settings import Settings
from nanotun.config.upstreams import firstHops
from nanotun.daemon.asked import processCalled
from nanotun.errors import ConfigError
from nanotun.linux.users import nearUser, uidOf
from nanotun.owners.descriptors import Descriptors
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.make import matcherOf
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.scanner import Scanner
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.values import EMPTY, Excluded, Process


def describedProcess(
    process: str | None, pid: str | None, uid: str | None, cgroup: str | None
) -> Process:
    """
    The process that the command line describes.  What it says takes precedence over what
    the machine says about C{pid}.

    @raise ConfigError: the process does not exist, or cannot be examined.
    @raise usage.UsageError: a value is wrong.
    """
    found = processCalled(process or "")
    if pid is not None:
        running = _running(pid)
        if process is not None:
            running = running._replace(names=found.names, name=found.name, path=found.path)
        found = running
    if uid is not None:
        found = found._replace(uids=(_user(uid),) * 3)
    if cgroup is not None:
        if not cgroup.startswith("/"):
            raise usage.UsageError("--cgroup must be a path, such as /system.slice/x.service")
        found = found._replace(cgroup=cgroup.rstrip("/") or "/")
    return found


def scanned(settings: Settings, pid: int) -> Excluded | None:
    """
    What the daemon's scan says of a process, which takes its ancestors and local proxies into
    account.

    @return: L{None} if it is neither excluded nor named by a rule.
    @raise ConfigError: the processes cannot be looked at.
    """
    matcher = matcherOf(settings)
    processes, sockets = ProcProcesses(), KernelSockets(settings.tunName)
    proxies = LocalProxies(firstHops(settings), sockets, processes.ownAddresses)
    descriptors = Descriptors(processes, time.thread_time)
    scanner = Scanner(
        processes, descriptors, matcher, settings.excludeChildren, lambda: 0, time.sleep
    )

    def startOf(pid: int) -> int | None:
        stat = processes.stat(pid)
        return None if stat is None else stat.started

    matcher.bindPids(startOf)
    try:
        sockets.start()
        try:
            proxies.readAddresses()
            table = scanner.scan(EMPTY, proxies.listeners())
        finally:
            sockets.close()
    except OSError as error:
        raise ConfigError(f"The processes cannot be looked at ({error}); try as root.") from None
    return table.excluded.get(pid)


def _running(text: str) -> Process:
    """Look up a running process by the number in C{text}."""
    if not re.fullmatch("[1-9][0-9]{0,9}", text):
        raise usage.UsageError(f"--pid must be a process's number, not {text[:40]!a}")
    process = ProcProcesses().process(int(text))
    if process is None:
        raise ConfigError(f"There is no process {text}, or it may not be looked at; try as root.")
    return process


def _user(text: str) -> int:
    try:
        return uidOf(text)
    except KeyError:
        near = nearUser(text)
        hint = f"; did you mean {near}?" if near else ""
        raise usage.UsageError(f"this machine has no user {text[:40]!a}{hint}") from None
