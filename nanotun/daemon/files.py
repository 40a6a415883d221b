"""
Which of the daemon's files root can use only with CAP_DAC_OVERRIDE.

Most of them are root's own.  But started with sudo in somebody's home, nanotun keeps
its pidfile and its logs there, and must be able to remove them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import nanotun
from nanotun.config.askedservers import serversOf
from nanotun.config.settings import Settings
from nanotun.config.upstreams import upstreamsOf
from nanotun.daemon.lists import pathsIn

READ, WRITE, SEARCH = 4, 2, 1  #: As in a mode, inode(7).

Stat = Callable[[str], os.stat_result]


def isForeign(path: str, want: int, stat: Stat = os.stat) -> bool:
    """
    Whether root needs CAP_DAC_OVERRIDE for a file.

    @param path: of a file, a directory or a socket.  If it does not exist, the nearest
        directory above it that does is judged.
    @param want: L{READ} or L{WRITE}.
    """
    path = os.path.realpath(path)
    here, allowed = "/", 0
    for part in ("", *path.strip("/").split("/")):
        here = os.path.join(here, part)
        try:
            status = stat(here)
        except OSError:
            # It does not exist, and can only be made in the directory seen last.
            return want == WRITE and not allowed & WRITE
        allowed = _allowed(status)
        if here.rstrip("/") != path.rstrip("/") and not allowed & SEARCH:
            return True
    return not allowed & want


def _allowed(status: os.stat_result) -> int:
    """What root may do with a file by its mode alone."""
    if status.st_uid == 0:
        return status.st_mode >> 6 & 7
    return (status.st_mode >> 3 if status.st_gid == 0 else status.st_mode) & 7


def pathsOf(
    settings: Settings, twistd: Mapping[str, Any], config: str | None
) -> tuple[set[str], set[str]]:
    """
    The files that a daemon uses while it runs.

    @param twistd: twistd's own options.
    @param config: the configuration file's path; L{None} or empty for none.
    @return: the paths that it reads, and those that it writes to.
    """
    read = {os.path.dirname(os.path.abspath(nanotun.__file__))}
    read.update(path for path in (config, settings.countryFile) if path)
    for lists in pathsIn(settings):
        read.update(lists)
    read.update(server.ca for server in serversOf(settings) if server.ca)
    written = {settings.runDir}
    for entry in upstreamsOf(settings).values():
        if entry.passwordFile:
            read.add(entry.passwordFile)
        for proxy in entry.proxy:
            needed = proxy.scheme.files(proxy)
            read.update(needed.read)
            written.update(needed.written)
    if settings.logDir:
        written.add(settings.logDir)
    logfile = twistd.get("logfile")
    made = [twistd.get("pidfile"), None if logfile == "-" else logfile]
    if settings.dnsMode == "fake-ip":
        made.append(settings.dnsStateFile)
    made.append(settings.flowLog)
    # Each is created, moved or removed, which takes the right to write to its directory.
    written.update(os.path.dirname(os.path.abspath(path)) for path in made if path)
    return read, written


def hasForeign(read: Iterable[str], written: Iterable[str], stat: Stat = os.stat) -> bool:
    """Whether L{isForeign} is true of any of these paths."""
    return any(isForeign(path, READ, stat) for path in read) or any(
        isForeign(path, WRITE, stat) for path in written
    )
