"""
The daemon's report for C{nanotun status}: named sections, each from the part that it
describes.  docs/command.md promises users that its fields stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from nanotun.flow import Stats

#: Makes a section: returns a JSON value.
Section = Callable[[], Any]

#: Prefix of the counters of dropped packets in L{Stats}.
_DROP = "drop_"


class Report:
    """
    Collects all sections.

    @param sections: by name, in the order in which they are shown.
    """

    _log = Logger()

    def __init__(self, sections: Mapping[str, Section]) -> None:
        self._sections = sections

    def __call__(self) -> dict[str, Any]:
        """
        Ask every part for its section.

        @return: the sections by name; L{None} for one that raised an exception, which is
            logged.
        """
        report: dict[str, Any] = {}
        for name, section in self._sections.items():
            try:
                report[name] = section()
            except Exception:
                self._log.failure("The report lacks its section {section}", section=name)
                report[name] = None
        return report


def engineReport(stats: Stats) -> dict[str, dict[str, int]]:
    """
    The engine's counters under the report's names.

    @return: C{flows}, C{bytes}, C{packets}, C{datagrams}, C{drops} and C{runtime}.
    """
    return {
        "flows": {
            "open": stats.flows,
            "halfOpen": stats.half_open,
            "deciding": stats.pending,
            "total": stats.flows_total,
            "refused": stats.refused,
        },
        "bytes": {"up": stats.bytes_up, "down": stats.bytes_down},
        "packets": {
            "in": stats.packets_in,
            "out": stats.packets_out,
            "retransmitted": stats.retransmits,
            "checksumErrors": stats.checksum_errors,
        },
        "datagrams": {
            "associations": stats.associations,
            "flows": stats.datagram_flows,
            "associationsTotal": stats.associations_total,
            "evicted": stats.associations_evicted,
            "up": stats.datagrams_up,
            "down": stats.datagrams_down,
        },
        "drops": {
            **{
                _camel(name.removeprefix(_DROP)): count
                for name, count in stats._asdict().items()
                if name.startswith(_DROP)
            },
            "stack": stats.stack_dropped,
        },
        "runtime": {"goroutines": stats.goroutines, "heap": stats.heap_bytes},
    }


def resources() -> dict[str, int]:
    """
    What this process uses of the machine (proc(5)).

    @return: C{rss} in bytes, C{fds} and C{threads}; a number that cannot be read is left out.
    """
    found: dict[str, int] = {}
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            text = file.read()
        # One of them is the descriptor that lists the directory.
        found["fds"] = len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return found
    rss = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.M)
    threads = re.search(r"^Threads:\s+(\d+)$", text, re.M)
    if rss:
        found["rss"] = int(rss.group(1)) * 1024
    if threads:
        found["threads"] = int(threads.group(1))
    return found


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
