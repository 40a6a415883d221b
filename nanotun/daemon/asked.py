"""
A question about a flow as people put it in a browser, and its answer also for host names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred

from nanotun.config.selectors import processName
from nanotun.daemon.described import Question, fieldsOf
from nanotun.daemon.explain import LOOK_UP, NO_FLOW
from nanotun.errors import NanotunError, RunningError
from nanotun.owners.names import namesOf
from nanotun.owners.values import Process, ProcStat

#: Judges a flow, or answers L{LOOK_UP}.
Judging: TypeAlias = "Callable[[Question], dict[str, Any] | Deferred[dict[str, Any]]]"

#: Finds the addresses of a question's host name; there is at least one.
Addresses: TypeAlias = "Callable[[Question], list[str] | Deferred[list[str]]]"

#: The uid of a process whose user was not described.
NOBODY = -1

NO_DESTINATION = "Say where the flow goes, as in example.org:443."

_DESTINATION = re.compile(r"\[([^\]]+)\]:([0-9]{1,5})|([^:\s]+):([0-9]{1,5})")

_FIELDS = {"destination", "host", "port", "protocol", "source", "process", "name"}


def questionOf(given: Mapping[str, Any]) -> Question:
    """
    Read a question.

    @param given: the fields of a L{Question}, or C{destination} in the place of C{host} and
        C{port}.  C{process} may be a name or a path.  What is empty or not there is not said.
    @raise RunningError: this is none; with one sentence.
    """
    if not given.keys() <= _FIELDS:
        raise RunningError(f"A question about a flow has {', '.join(sorted(_FIELDS))}.")
    host, port = given.get("host", ""), given.get("port", 0)
    if given.get("destination"):
        found = _DESTINATION.fullmatch(str(given["destination"]).strip())
        if found is None:
            raise RunningError(NO_DESTINATION)
        host, port = found[1] or found[3], int(found[2] or found[4])
    texts = [host, *(given.get(name) or "" for name in ("source", "name"))]
    protocol = given.get("protocol") or "tcp"
    if not (host and all(isinstance(each, str) for each in texts)):
        raise RunningError(NO_DESTINATION)
    if not isinstance(port, int) or not 1 <= port <= 65535 or protocol not in ("tcp", "udp"):
        raise RunningError("The port is 1 to 65535, and the protocol tcp or udp.")
    process = given.get("process") or None
    if isinstance(process, str):
        process = fieldsOf(processCalled(process))
    return Question(protocol, host, port, texts[1], process, texts[2])


def processCalled(text: str) -> Process:
    """A process of which only the name, or the path, is known."""
    path = text if text.startswith("/") else ""
    name = os.path.basename(text)
    names = namesOf(path, name, ()) if path else frozenset({processName(text)})
    nobody = Process(0, ProcStat(0, 0, b"", 0, 0), (NOBODY,) * 3, frozenset(), "", "", "")
    return nobody._replace(names=names, name=name, path=path)


@inlineCallbacks
def addressByAddress(
    question: Question, ask: Judging, lookUp: Addresses
) -> Generator[Any, Any, dict[str, Any]]:
    """
    The answer about an address or, address by address, about a host name.

    @raise NanotunError: no flow to the name begins, or it cannot be looked up.
    """
    answer: dict[str, Any] = yield maybeDeferred(ask, question)
    if NO_FLOW in answer:
        raise NanotunError(answer[NO_FLOW])
    if answer != LOOK_UP:
        return answer
    # The relay tells other machines no address, so it knows no name of theirs.
    known = "" if question.source else question.host
    addresses = yield maybeDeferred(lookUp, question)
    answers: list[dict[str, Any]] = []
    for address in addresses:
        one = yield maybeDeferred(ask, question._replace(host=address, name=known))
        alike = ("verdict", "rule", "reason")
        for other in answers:
            if all(one[key] == other[key] for key in alike):
                other["addresses"].append(address)
                break
        else:
            answers.append({**one, "addresses": [address]})
    first = answers[0]
    return {
        **first,
        "destination": f"{question.host}:{question.port}",
        "name": question.host,
        "addresses": addresses,
        "answers": answers,
    }
