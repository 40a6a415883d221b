"""
Says why a command of C{nanotun run} waits for its first connection.

A dial may take as long as C{connectTimeout}, and a user who sees nothing meanwhile does not
know whom to ask.  So the proxies are asked whether they answer, and one sentence follows.
Once a connection was carried there is nothing more to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UnexpectedEvent, UpstreamError
from nanotun.interfaces import IHealthCheck, IPart, IUpstream
from nanotun.timer import Timer

#: Seconds between two looks.
TICK = 0.5

#: Seconds until a proxy that is asked counts as silent: less than L{LIMIT}.
CHECK_LIMIT = 3.0

#: Seconds that a connection may wait without a word; with L{TICK}, less than five.
LIMIT = 4.0

#: States: nothing waits; something waits; there is nothing more to be said.
IDLE, WATCHING, OVER = "idle", "watching", "over"


@implementer(IPart)
class Patience:
    """
    See the module.

    @param carried: how many connections were carried so far.
    @param waiting: where the connection goes that has waited longest; empty for none.
    @param proxies: upstreams of one proxy each, of those that the connection may wait for.  They
        answer or fail within L{CHECK_LIMIT}.
    @param told: whether somebody else has said already that none of these proxies answers.
    """

    name = "the look at the first connection"
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        carried: Callable[[], int],
        waiting: Callable[[], str],
        proxies: Callable[[], Sequence[IUpstream]],
        told: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._carried = carried
        self._waiting = waiting
        self._proxies = proxies
        self._told = told
        self._timer = Timer(clock, self._look)
        self._state = IDLE
        self._since = 0.0
        self._where = ""
        self._checks: list[Deferred[None]] = []
        self._errors: list[str] = []
        self._answering: list[str] = []

    def start(self) -> None:
        """See L{IPart.start}."""
        self._timer.start(TICK)

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self._step("stop")

    def _look(self) -> None:
        if self._carried():
            self._step("carried")
            return
        before, self._where = self._where, self._waiting()
        if not self._where:
            self._step("nothing")
        else:
            self._step("waiting" if self._where == before else "another")

    def _step(self, event: str) -> None:
        """
        Take the step that L{_TABLE} has for an event.

        @raise UnexpectedEvent: it has none for this state.
        """
        step = _TABLE.get((self._state, event))
        if step is None:
            raise UnexpectedEvent("The look at the first connection", self._state, event)
        self._state, action = step
        action(self)

    # The actions of the table, called with the new state already set.

    def _wait(self) -> None:
        self._timer.start(TICK)

    def _ask(self) -> None:
        self._cancelChecks()
        self._since = self._clock.seconds()
        self._errors, self._answering = [], []
        for proxy in self._proxies():
            check = maybeDeferred(IHealthCheck(proxy).check)
            self._checks.append(check)
            check.addCallbacks(self._answers, self._fails, (proxy.describe(),))
        self._wait()

    def _watch(self) -> None:
        if self._clock.seconds() - self._since >= LIMIT:
            self._step("long")
        else:
            self._wait()

    def _forget(self) -> None:
        self._cancelChecks()
        self._wait()

    def _tell(self) -> None:
        self._end()
        if not self._answering and not self._told():
            for error in self._errors:
                self._log.error("{why}", why=error)
        if self._answering:
            one = len(self._answering) == 1
            self._log.error(
                "The connection to {where} has waited {limit:g} s for {proxies}, which {verbs} not "
                "reached it yet.",
                where=self._where,
                limit=LIMIT,
                proxies=" and ".join(self._answering),
                verbs="answers but has" if one else "answer but have",
            )

    def _end(self) -> None:
        self._timer.cancel()
        self._cancelChecks()

    def _cancelChecks(self) -> None:
        checks, self._checks = self._checks, []
        for check in checks:
            check.cancel()

    def _answers(self, result: object, name: str) -> None:
        self._answering.append(name)

    def _fails(self, reason: Failure) -> None:
        if reason.check(CancelledError) is None:
            reason.trap(UpstreamError)
            self._errors.append(str(reason.value))


#: State and event to the new state and the action that follows.
_TABLE: dict[tuple[str, str], tuple[str, Callable[[Patience], None]]] = {
    (IDLE, "nothing"): (IDLE, Patience._wait),
    (IDLE, "another"): (WATCHING, Patience._ask),
    (IDLE, "carried"): (OVER, Patience._end),
    (IDLE, "stop"): (OVER, Patience._end),
    (WATCHING, "waiting"): (WATCHING, Patience._watch),
    # The one before it failed.
    (WATCHING, "another"): (WATCHING, Patience._ask),
    # It failed, which is somebody else's to say.
    (WATCHING, "nothing"): (IDLE, Patience._forget),
    (WATCHING, "carried"): (OVER, Patience._end),
    (WATCHING, "long"): (OVER, Patience._tell),
    (WATCHING, "stop"): (OVER, Patience._end),
    (OVER, "stop"): (OVER, Patience._end),
}
