"""
Processes that are about to be the proxy: C{ssh -D} connects to its server before it
listens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from nanotun.owners.inheritance import GENERATIONS, inherits
from nanotun.owners.interfaces import IProcesses
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.values import Excluded, ProcStat
from nanotun.policy.rules import LOCAL_PROXY

#: The kernel's name for the program.
_SSH = b"ssh"

#: The options of OpenSSH 9 that are followed by a value, in the same word or the next.
_WITH_VALUE = frozenset("BDEFIJLOPQRSWbceilmopw")

#: The value of C{-o} that stands for C{-D}.
_FORWARD = re.compile(r"\s*dynamicforward(?:\s*=\s*|\s+)\"?([^\s\"]+)", re.IGNORECASE)


class Claims:
    """
    Knows who will listen at the address of a local proxy, as long as nobody listens there.
    Once somebody does, that process alone is the proxy, and a claim is void.
    """

    def __init__(self, processes: IProcesses, proxies: LocalProxies) -> None:
        self._processes = processes
        self._proxies = proxies

    def find(self, pid: int) -> Excluded | None:
        """
        Whether a process, or one in its session that it descends from (C{ProxyCommand}), was
        about to be the proxy when the listeners were last sampled.
        """
        ports = self._proxies.free
        above, below = pid, None
        for _ in range(GENERATIONS if ports else 0):
            stat = self._processes.stat(above)
            if stat is None:
                break
            if below is not None and not inherits(LOCAL_PROXY, below, stat, children=False):
                break
            if self._asks(above, stat, ports):
                process = self._processes.process(pid)
                return None if process is None else Excluded(process, LOCAL_PROXY, above != pid)
            above, below = stat.parent, stat
        return None

    def pids(self, stats: Mapping[int, ProcStat]) -> list[int]:
        """
        The pids of all such processes.

        @param stats: of the processes that are known.
        """
        ports = self._proxies.free
        if not ports:
            return []
        sessions = {stat.session for pid, stat in stats.items() if self._asks(pid, stat, ports)}
        return [pid for pid, stat in stats.items() if stat.session in sessions and self.find(pid)]

    def _asks(self, pid: int, stat: ProcStat, ports: frozenset[int]) -> bool:
        return stat.command == _SSH and not ports.isdisjoint(
            dynamicPorts(self._processes.arguments(pid))
        )


def dynamicPorts(arguments: Sequence[str]) -> frozenset[int]:
    """
    The ports at which an C{ssh} with this command line will be a SOCKS server.  ssh reads
    options before the destination and after it, up to the command.

    @param arguments: with the program's name.
    """
    return frozenset(filter(None, map(_port, _forwards(arguments[1:]))))


def _forwards(words: Sequence[str]) -> Iterator[str]:
    """The values of all options that ask for such a server."""
    rest = iter(words)
    operands = 0
    for word in rest:
        if word == "--":
            return
        if len(word) < 2 or not word.startswith("-"):
            operands += 1
            if operands == 2:
                return
            continue
        for place, letter in enumerate(word[1:], 2):
            if letter in _WITH_VALUE:
                value = word[place:] or next(rest, "")
                if letter == "D":
                    yield value
                elif letter == "o" and (found := _FORWARD.match(value)):
                    yield found[1]
                break


def _port(value: str) -> int:
    """The port of C{[bind_address:]port}; 0 if there is none."""
    text = re.split("[:/]", value)[-1]
    return int(text) if text.isdecimal() and text.isascii() else 0
