"""
Has a container's programs ask the relay: writes its F{/etc/resolv.conf}.

Elsewhere the file is left alone, because the firewall redirects queries.  In a container that is
not enough: it may name a server on the loopback (127.0.0.11 with Docker) whose own queries are sent
by the machine outside, where nobody redirects them.

The file is mounted, so that it cannot be replaced, and all containers that share a network have the
same one.  It holds what was there before (L{nanotun.linux.resolvconf}), because it can outlive the
journal: a container that is made anew in the network of another one finds it as it was left.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

from zope.interface import implementer

from nanotun.addresses import GATEWAY4
from nanotun.config.settings import Settings
from nanotun.errors import RoutingError
from nanotun.linux.cgroups import MOUNTS
from nanotun.linux.resolvconf import (
    KEPT,
    RESOLV_CONF,
    SIZE_LIMIT,
    Written,
    findWritten,
    readResolvConf,
    written,
)
from nanotun.routing.interfaces import IChange


@implementer(IChange)
class ResolvConfFile:
    """
    The file with the relay as its only server.

    @param runDir: of the daemon that writes it.
    """

    kind = "resolv.conf"

    def __init__(self, runDir: str, path: str = RESOLV_CONF) -> None:
        self._runDir = runDir
        self._path = path

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return f"echo 'nameserver {GATEWAY4}' >{self._path}"

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        path = self._path
        return f"lines=$(sed -n 's/^{KEPT}//p' {path}) && echo \"$lines\" >{path}"

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return {"runDir": self._runDir, "path": self._path}

    def apply(self) -> None:
        """See L{IChange.apply}."""
        try:
            self._write(self._wanted())
        except OSError as error:
            raise RoutingError(
                f"{self._path} cannot be written ({error.strerror}), and names might be looked up "
                f"past the tunnel; mount a file there with the line 'nameserver {GATEWAY4}', or "
                "set resolvConf to off."
            ) from None

    def undo(self) -> None:
        """See L{IChange.undo}."""
        try:
            found = findWritten(self._read())
            if found is not None:
                self._write(found.before)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RoutingError(
                f"{self._path} cannot be put back ({error.strerror}); type '{self.describeUndo()}'."
            ) from None

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        try:
            return self._read() == self._wanted()
        except OSError:
            return False

    def _wanted(self) -> str:
        text = self._read()
        found = findWritten(text)
        if found is None and names(text) == [GATEWAY4]:
            # Somebody has written it for us.
            return text
        return written(text if found is None else found.before, self._runDir, GATEWAY4)

    def _read(self) -> str:
        with open(self._path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read(SIZE_LIMIT)

    def _write(self, text: str) -> None:
        """Write in place; whenever this process is killed, no line is half old and half new."""
        if text == self._read():
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            data = text.encode("utf-8", "surrogateescape")
            rest = os.fstat(fd).st_size - len(data)
            os.pwrite(fd, data + b"\n" * max(rest, 0), 0)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)


def names(text: str) -> list[str]:
    """The servers that a file's text names, as they are written."""
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def fileOf(settings: Settings, path: str = RESOLV_CONF, root: str = "") -> list[ResolvConfFile]:
    """
    The change that these settings want on this machine, or nothing.

    @param root: prefix of F{/proc}, for tests.
    """
    if settings.resolvConf == "off" or settings.onlyProcesses or not isContainers(path, root):
        return []
    if not os.access(path, os.W_OK) and not any(map(_isLoopback, readResolvConf(path).servers)):
        # The firewall redirects what these are asked.
        return []
    return [ResolvConfFile(settings.runDir, path)]


def _isLoopback(host: str) -> bool:
    return ip_address(host.partition("%")[0]).is_loopback


def isContainers(path: str, root: str = "") -> bool:
    """
    Whether a file is mounted by itself, as in a container, and belongs to this network namespace:
    C{ip netns exec} has the machine's files.
    """
    try:
        with open(f"{root}{MOUNTS}", encoding="utf-8", errors="surrogateescape") as file:
            if not any(line.split()[4:5] == [path] for line in file):
                return False
        first = os.stat(f"{root}/proc/1/ns/net")
    except PermissionError:
        # The first process has capabilities that we lack, as in a pod whose containers see
        # each other's processes.
        return True
    except OSError:
        return False
    return os.path.samestat(first, os.stat(f"{root}/proc/self/ns/net"))


def findFile(path: str = RESOLV_CONF) -> Written | None:
    """What a daemon has left in the file; L{None} for nothing."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return findWritten(file.read(SIZE_LIMIT))
    except OSError:
        return None


def leftBy(runDir: str) -> list[IChange]:
    """The file as a change, if a daemon with this C{runDir} has left it."""
    found = findFile()
    return [ResolvConfFile(runDir)] if found is not None and found.runDir == runDir else []


def fromRecord(record: dict[str, Any]) -> ResolvConfFile:
    """
    Make a change from its record; see L{IChange.record}.

    @raise ValueError, KeyError: the record is invalid.
    """
    if record["path"] != RESOLV_CONF:
        raise ValueError(record)
    return ResolvConfFile(str(record["runDir"]))
