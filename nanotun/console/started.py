"""
What C{nanotun start -d} says once the daemon runs in the background.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from nanotun.console import FAILED, GOOD
from nanotun.console.statustext import printable
from nanotun.control.client import Client
from nanotun.errors import NotRunning, RunningError

#: Seconds for the daemon's answer, which waits for its proxies for half as long.
ANSWER_TIME = 5.0


def troublesOf(report: Mapping[str, Any]) -> list[str]:
    """Why proxies are down: a sentence for each of them, and one about what follows."""
    proxies = report["upstream"]["proxies"] if report.get("upstream") else []
    troubles = [printable(proxy["trouble"]) for proxy in proxies if proxy["trouble"]]
    if troubles and len(troubles) == len(proxies):
        troubles.append("Connections fail until the proxy answers.")
    return troubles


def tell(
    tunName: str,
    runDir: str,
    out: TextIO | None = None,
    err: TextIO | None = None,
    ask: Callable[[str], Any] | None = None,
) -> int:
    """
    Say that the daemon runs, and what is wrong with its proxies.  That they are down is no
    failure: the tunnel is up, and a proxy may come later.

    @param out: standard output.
    @param err: standard error.
    @param ask: asks the daemon of a runDir for its status.
    @return: the exit status.
    """
    # sys.stdout and sys.stderr are twistd's by now, and lead into the log.
    out, err = out or sys.__stdout__, err or sys.__stderr__
    try:
        report = (ask or _askStatus)(runDir)
    except NotRunning:
        print("nanotun: it ended right after its start; its log says why.", file=err, flush=True)
        return FAILED
    except RunningError:
        print(f"{tunName} is up.", file=out, flush=True)
        return GOOD
    print(f"{tunName} is up, as process {report['daemon']['pid']}.", file=out, flush=True)
    for trouble in troublesOf(report):
        print(f"nanotun: {trouble}", file=err, flush=True)
    return GOOD


def _askStatus(runDir: str) -> Any:
    with Client(runDir, ANSWER_TIME) as client:
        return client.ask("status")
