"""
Asks the relay on behalf of somebody who wants to see what it does: C{nanotun dns}.
"""

from __future__ import annotations

from itertools import count

from twisted.internet.defer import Deferred

from nanotun.flow import Endpoint
from nanotun.gateway.dns.addresses import queryFor
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.trace import Trace

#: The client, for limits and for the user's script: a program of this machine.
CLIENT = Endpoint("127.0.0.1", 0)


class QueriesByHand:
    """
    See the module.

    @param answering: the first of the stages that a query passes.
    """

    def __init__(self, answering: IAnswering) -> None:
        self._answering = answering
        self._numbers = count()

    def ask(self, name: str, kind: int, trace: Trace) -> Deferred[bytes]:
        """
        Ask as the C library does for a program, without EDNS, so that what is in the cache for
        programs is found; but by TCP, so that the answer is whole.  It counts as any query does,
        and has the same effects.

        @param name: labels of 1 to 63 ASCII characters with dots between them; empty for the
            root.
        @param trace: filled in before the answer is there.
        @return: fires with the answer; never, if the relay is stopped before.
        """
        found: Deferred[bytes] = Deferred()
        # A query that its client repeats is not answered.
        ident = next(self._numbers) % 65536
        wire = ident.to_bytes(2, "big") + queryFor(name, kind)[2:]
        self._answering.query(wire, CLIENT, found.callback, overTCP=True, trace=trace)
        return found
