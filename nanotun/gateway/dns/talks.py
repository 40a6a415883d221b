"""
What a talk with a DNS server, an L{ITalk<nanotun.gateway.dns.interfaces.ITalk>}, has to say.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class TalkError(Exception):
    """
    The server does not speak as it should.

    The text says what it does, without the subject and the period: it follows "The DNS server
    X ".
    """


class Heard(NamedTuple):
    """
    What has become of a query.

    @ivar key: as L{ITalk.send<nanotun.gateway.dns.interfaces.ITalk.send>} returned it.
    @ivar answer: the message, with any id; empty if the query has failed.
    @ivar trouble: why it has failed, as in L{TalkError}; empty if the server is not to blame.
    @ivar again: whether the server has not looked at the query, so that it may be sent on
        another connection.
    @ivar age: seconds that a cache on the way has kept the answer.
    """

    key: Hashable
    answer: bytes = b""
    trouble: str = ""
    again: bool = False
    age: int = 0
