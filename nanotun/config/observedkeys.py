"""
The settings of what is told and kept of flows; a part of L{nanotun.config.keys}.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanotun.config import values
from nanotun.config.entry import REFUSED, setting
from nanotun.flow import Endpoint

#: Days; ten years, of which no file is large enough to hold much.
DAYS_LIMIT = 3650


@dataclass(frozen=True, kw_only=True)
class ObservedSettings:
    """
    What is told and kept of flows.

    @ivar flowLog: a path, or the empty string for none.
    @ivar flowLogSize: bytes.
    @ivar flowLogDays: days.
    @ivar metrics: a literal address and a port, or L{None} for none.
    @ivar web: likewise, or the path of a unix socket, or the empty string for none.
    """

    logFlows: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "log a line for each flow that has ended",
        doc="Whether to log a line, at info, for each flow that has ended: where it went, by which "
        "upstream and rule, and how much it carried.",
        live=True,
        run=REFUSED,
    )
    flowLog: str = setting(
        values.wholeFile,
        "",
        "FILE",
        "SQLite file that keeps the flows that have ended; `''` for none",
        doc="A file in which the flows that have ended are kept, with their programs, for "
        "'nanotun history'; a path that begins with /.  '' for none.",
        run=REFUSED,
    )
    flowLogSize: int = setting(
        # Less does not hold a day of a quiet machine.
        values.size("1MiB", "1TiB", "256MiB or 2GiB"),
        "256MiB",
        "SIZE",
        "how large flowLog may become, 1MiB to 1TiB",
        doc="How large flowLog may become, 1MiB to 1TiB: then the oldest flows are deleted, of "
        "which only totals are left.",
        run=REFUSED,
    )
    flowLogDays: int = setting(
        values.number(1, DAYS_LIMIT, "days"),
        30,
        "DAYS",
        f"how long flowLog keeps each flow, 1 to {DAYS_LIMIT} days",
        doc=f"How many days flowLog keeps each flow, 1 to {DAYS_LIMIT}.",
        run=REFUSED,
    )
    metrics: Endpoint | None = setting(  # noqa: RUF009 (immutable)
        values.listening,
        "",
        "HOST:PORT",
        "address at which Prometheus gets metrics, such as `127.0.0.1:9198`; `''` for none",
        doc="The literal address and port at which Prometheus gets metrics, such as 127.0.0.1:9198 "
        "or '[::1]:9198'; '' for none.  It needs the token in metrics.token in runDir.",
        run=REFUSED,
    )
    web: Endpoint | str = setting(  # noqa: RUF009 (immutable)
        values.serving,
        "",
        "HOST:PORT",
        "address of the page for a browser and of its API, such as `127.0.0.1:8198`; `''` for none",
        doc="The literal address and port at which a browser finds nanotun's page, and programs "
        "its API, such as 127.0.0.1:8198 or '[::1]:8198'; or the path of a unix socket; '' for "
        "none.  'nanotun web' prints the link with the token that it needs.",
        run=REFUSED,
    )
