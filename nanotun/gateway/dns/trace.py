"""
What became of one query on its way, for whoever wants to know: C{nanotun dns}.
"""

from __future__ import annotations

from typing import NamedTuple


class Try(NamedTuple):
    """
    One server that was asked.

    @ivar server: as the settings write it.
    @ivar via: the upstream that it was asked through, or C{direct}.
    @ivar seconds: from the question to the answer, to the error, or to the end.
    @ivar trouble: empty if it answered; else C{no answer}, or a sentence.
    """

    server: str
    via: str
    seconds: float
    trouble: str = ""


class Trace:
    """
    Filled in by the stages that a query passes, by the one that answers at the latest.

    @ivar stage: which one that is: C{script}, C{hosts}, C{rule}, C{rejected}, C{fake},
        C{absent}, C{private}, C{cache}, C{stale}, C{server} or C{limit}; C{server} also where
        none has answered.
    @ivar rule: the rule that has led to it, as text for the user; empty if there is none.
    @ivar server: the server that the answer is from, as the settings write it, or empty.
    @ivar via: the upstream that it was asked through, or C{direct}; empty without a server.
    @ivar cached: whether the answer was in the cache.
    @ivar age: seconds for which it has been there.
    @ivar tries: the servers that were asked for it, in order.
    """

    __slots__ = ("age", "cached", "rule", "server", "stage", "tries", "via")

    def __init__(self) -> None:
        self.stage = ""
        self.rule = ""
        self.server = ""
        self.via = ""
        self.cached = False
        self.age = 0.0
        self.tries: tuple[Try, ...] = ()
