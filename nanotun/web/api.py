"""
What can be asked about the daemon, and told to it: the same for the pages and for programs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias

from twisted.internet.defer import Deferred

from nanotun.errors import RunningError

#: A JSON object.
Answer: TypeAlias = "dict[str, Any]"

#: Perhaps one that is yet to come.
Coming: TypeAlias = "Answer | Deferred[Answer]"

#: Flows of a page that is asked for without a limit, and the most of any: to make and to write
#: one keeps the reactor for some milliseconds.
FLOW_PAGE, FLOW_PAGE_LIMIT = 500, 1000

#: Lines of the log.
LINES, LINES_LIMIT = 200, 1000

#: Sentences that are kept for the page after a form.
TOLD_LIMIT = 16


class DaemonSide(NamedTuple):
    """
    Whatever the daemon answers.

    @ivar flows: as the control request C{flows}; so C{close}, C{explain}, C{status} and
        C{reload}.
    @ivar each: calls a function with each open flow, as C{flows} has it, over several turns of
        the reactor; fires at the end.
    @ivar upstreams: see L{Api.upstreams}; so C{rules}, C{dns} and C{config}.
    @ivar log: the newest lines of the log, as many as are asked for; see L{Api.log}.
    """

    flows: Callable[[Mapping[str, Any]], Answer]
    each: Callable[[Callable[[Answer], object]], Deferred[None]]
    close: Callable[[Mapping[str, Any]], Answer]
    status: Callable[[], Coming]
    upstreams: Callable[[], Answer]
    rules: Callable[[], Answer]
    explain: Callable[[Mapping[str, Any]], Coming]
    reload: Callable[[], Coming]
    dns: Callable[[], Answer]
    log: Callable[[int], Answer]
    config: Callable[[], Answer]


class Api:
    """
    The calls.  docs/api.md and docs/openapi.json have what each returns.

    @ivar csrf: what the field C{csrf} of a form has to be.
    """

    def __init__(self, daemon: DaemonSide, csrf: str) -> None:
        self.csrf = csrf
        self._daemon = daemon
        self._told: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def flows(self, after: int = 0, limit: int = FLOW_PAGE) -> Answer:
        """
        Open flows, in ascending order of their ids.

        @param after: the id after which the page begins.
        @return: C{flows}, C{next} (L{None} after the last page) and C{now}.
        @raise RunningError: C{limit} is more than L{FLOW_PAGE_LIMIT}.
        """
        if not 1 <= limit <= FLOW_PAGE_LIMIT:
            raise RunningError(f"limit must be 1 to {FLOW_PAGE_LIMIT}.")
        return self._daemon.flows({"after": after, "limit": limit})

    def eachFlow(self, take: Callable[[Answer], object]) -> Deferred[None]:
        """
        Look at all open flows without keeping the reactor for long.

        @param take: called with each, as L{flows} has it.
        @return: fires after the last.
        """
        return self._daemon.each(take)

    def close(self, ids: Collection[int]) -> Answer:
        """
        Close flows.

        @return: C{closed}: how many were still there.
        """
        return self._daemon.close({"ids": list(ids)})

    def status(self) -> Coming:
        """The status report."""
        return self._daemon.status()

    def upstreams(self) -> Answer:
        """C{upstreams}: by name, as the status report has them."""
        return self._daemon.upstreams()

    def rules(self) -> Answer:
        """
        C{rules}: for each of the user's C{rule} (its name), C{to}, C{where}, C{flows} and C{when}
        (its conditions as written); C{counts}: flows by the names of all rules; C{default}: where
        other flows leave.
        """
        return self._daemon.rules()

    def explain(self, question: Mapping[str, Any]) -> Coming:
        """
        What becomes of a flow.

        @param question: C{destination} (or C{host} and C{port}) and perhaps C{protocol}, C{process}
            (a name or a path), C{name} and C{source}; see L{nanotun.daemon.described.Question}.
        @return: as C{nanotun explain --json} has it.
        @raise NanotunError: this is no question, or its name cannot be looked up.
        """
        return self._daemon.explain(question)

    def reload(self) -> Coming:
        """Read the configuration again: C{changed}, C{restart} and C{warnings}."""
        return self._daemon.reload()

    def dns(self) -> Answer:
        """
        C{queries}: the last ones, the newest first: C{time} (seconds since 1970), C{name},
        C{type}, C{status}, C{stage}, C{server}, C{via} and C{seconds}.  They are recorded for a
        minute after each call.
        """
        return self._daemon.dns()

    def log(self, lines: int = LINES) -> Answer:
        """
        The end of the log.

        @return: C{lines}: the oldest first; C{number}, C{time} (seconds since 1970), C{level},
            C{namespace} and C{text} of each.
        @raise RunningError: C{lines} is more than L{LINES_LIMIT}.
        """
        if not 1 <= lines <= LINES_LIMIT:
            raise RunningError(f"lines must be 1 to {LINES_LIMIT}.")
        return self._daemon.log(lines)

    def config(self) -> Answer:
        """
        C{settings}: for each setting its C{name}, C{value} (as written, without passwords),
        C{where} it was written (empty for a default), whether a reload takes it over (C{live}),
        and whether it C{waits} for a restart; C{file}: the configuration file, or L{None}.
        """
        return self._daemon.config()

    def tell(self, sentence: str) -> str:
        """
        Keep a sentence for the next page.

        @return: for its query, as C{told}.
        """
        if len(self._told) >= TOLD_LIMIT:
            del self._told[next(iter(self._told))]
        key = str(next(self._numbers))
        self._told[key] = sentence
        return key

    def told(self, key: str) -> str:
        """The sentence that was kept, once; empty if there is none."""
        return self._told.pop(key, "")
