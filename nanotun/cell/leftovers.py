"""
Finds the processes in a cell, and ends them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

#: Seconds between SIGTERM and SIGKILL: enough for a process to clean up.
GRACE = 1.0

#: How often SIGKILL is sent to the remaining processes, which may fork meanwhile.
ROUNDS = 50

PAUSE = 0.02  #: Seconds between two searches.


class Resident(NamedTuple):
    """A process in the cell; C{name} is the one that ps(1) shows."""

    pid: int
    name: str


def namespaceOf(pid: int | str = "self", proc: str = "/proc") -> tuple[int, int] | None:
    """The identity of a process's network namespace (namespaces(7)); L{None} without process."""
    try:
        status = os.stat(f"{proc}/{pid}/ns/net")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def residents(
    namespace: tuple[int, int], spared: tuple[int, ...] = (), proc: str = "/proc"
) -> list[Resident]:
    """
    Find all processes of a network namespace.

    @param namespace: from L{namespaceOf}.
    @param spared: pids to leave out.
    """
    found = []
    for entry in os.listdir(proc):
        if not entry.isdigit() or int(entry) in spared:
            continue
        if namespaceOf(entry, proc) != namespace:
            continue
        with contextlib.suppress(OSError), open(f"{proc}/{entry}/stat") as file:
            head, _, tail = file.read().rpartition(")")
            if tail.split()[0] not in "ZX":
                found.append(Resident(int(entry), head.partition("(")[2]))
    return found


def endAll(
    find: Callable[[], list[Resident]],
    kill: Callable[[int, int], None] = os.kill,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[Resident]:
    """
    End processes: SIGTERM first, SIGKILL after L{GRACE} seconds.

    @param find: returns the processes that still exist.
    @return: those that existed at first.
    """
    first = find()
    _signal(first, (signal.SIGTERM, signal.SIGCONT), kill)
    deadline = clock() + GRACE
    left = first
    while left and clock() < deadline:
        sleep(PAUSE)
        left = find()
    for _ in range(ROUNDS):
        if not left:
            break
        _signal(left, (signal.SIGKILL,), kill)
        sleep(PAUSE)
        left = find()
    return first


def _signal(
    who: list[Resident], numbers: tuple[int, ...], kill: Callable[[int, int], None]
) -> None:
    for resident in who:
        for number in numbers:
            with contextlib.suppress(OSError):
                kill(resident.pid, number)
