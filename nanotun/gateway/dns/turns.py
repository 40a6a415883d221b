"""
The servers' turns to answer one question: which were asked, what came of it, and who has still
to answer.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun.errors import UpstreamError
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.trace import Trace, Try
from nanotun.interfaces import DnsServer


class Turn:
    """
    One server's turn.

    @ivar attempt: L{None} if the server could not be asked.
    @ivar began: the time in seconds when it was asked.
    @ivar seconds: how long it took until what C{trouble} says; L{None} while it is asked.
    @ivar trouble: see L{Try.trouble}.
    """

    __slots__ = ("attempt", "began", "seconds", "server", "trouble")

    def __init__(self, server: DnsServer, began: float) -> None:
        self.server = server
        self.began = began
        self.attempt: IAttempt | None = None
        self.seconds: float | None = None
        self.trouble = "no answer"


class Turns:
    """
    Turns by number, in the order of asking.  A server that takes longer, and need not be asked
    again, has its turn several times.

    @param queries: asks the servers, and is told what comes of it.
    @param seconds: gives the time.
    """

    __slots__ = ("_first", "_queries", "_seconds", "_turns")

    def __init__(self, queries: ServerQueries, seconds: Callable[[], float]) -> None:
        self._queries = queries
        self._seconds = seconds
        self._turns: list[Turn] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def first(self) -> int:
        """The number of the first turn since L{restart}."""
        return self._first

    def isLatest(self, number: int) -> bool:
        """Whether no other server has had its turn since."""
        turns = self._turns
        return number < len(turns) and turns[number] is turns[-1]

    def isWithLatest(self, number: int) -> bool:
        """Whether the server is the one that had its turn last."""
        return self._turns[-1].server == self._turns[number].server

    def prolong(self, server: DnsServer) -> bool:
        """
        Give a server that has still to answer another turn, if it need not be asked again.

        @return: whether that is so.
        """
        for turn in self._turns[self._first :]:
            if turn.server == server and turn.attempt is not None and not turn.attempt.doubt():
                self._turns.append(turn)
                return True
        return False

    def begin(self, server: DnsServer, ask: Callable[[DnsServer], IAttempt]) -> bool:
        """
        It is the turn of a server that has to be asked.

        @param ask: asks it; see L{ServerQueries.ask}.
        @return: whether it could be asked.
        """
        turn = Turn(server, self._seconds())
        self._turns.append(turn)
        try:
            turn.attempt = ask(server)
        except (OSError, UpstreamError) as error:
            self._fail(turn, error)
            return False
        return True

    def answered(self, number: int, answer: bytes) -> DnsServer:
        """
        The server has answered.

        @return: which one it is.
        """
        turn = self._turns[number]
        turn.seconds = self._seconds() - turn.began
        turn.trouble = ""
        self._queries.answered(turn.server, answer, turn.seconds)
        return turn.server

    def silent(self, number: int, waited: float) -> None:
        """The time of a turn is over, though the answer may still come."""
        turn = self._turns[number]
        again = turn.seconds is not None
        turn.seconds = self._seconds() - turn.began
        self._queries.timedOut(turn.server, waited, again)
        if turn.attempt is not None:
            turn.attempt.doubt()

    def failed(self, number: int) -> None:
        """It seems that there will be no answer."""
        self._fail(self._turns[number], None)

    def restart(self) -> None:
        """Await no answer any more; the servers are asked once more, in another way."""
        self._cancel()
        self._first = len(self._turns)

    def clear(self) -> None:
        """Await no answer, and forget the turns."""
        self._cancel()
        self._turns.clear()

    def fill(self, trace: Trace, answered: DnsServer | None) -> None:
        """
        Say what has happened.

        @param answered: whose answer is given, if there is one.
        """
        tallyOf, now = self._queries.tallyOf, self._seconds()
        trace.stage = "server"
        if answered is not None:
            trace.server, trace.via = str(answered), tallyOf(answered).server.via
        trace.tries = tuple(
            Try(
                str(turn.server),
                tallyOf(turn.server).server.via,
                now - turn.began if turn.seconds is None else turn.seconds,
                turn.trouble,
            )
            for turn in dict.fromkeys(self._turns)
        )

    def _fail(self, turn: Turn, error: OSError | UpstreamError | None) -> None:
        turn.seconds = self._seconds() - turn.began
        self._queries.failed(turn.server, error)
        turn.trouble = self._queries.tallyOf(turn.server).trouble

    def _cancel(self) -> None:
        for turn in self._turns:
            if turn.attempt is not None:
                turn.attempt.cancel()
