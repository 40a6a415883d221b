"""
The parent's end of a script that runs in a process of its own, with its owner's rights.

Rules
 - The process is trusted with nothing but its answers: they are checked as the script's are.
 - If it does not answer in time, or is gone, or sends what is no answer, the fallback counts.
   It is not started again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.interfaces import IPart, IScript
from nanotun.script import End, Flow, Query, Through
from nanotun.scripting.answers import readAnswer, readReply
from nanotun.scripting.awaited import Awaited
from nanotun.scripting.failures import Failures
from nanotun.scripting.script import RUNNING_LIMIT, ScriptOptions
from nanotun.scripting.served import Hello, Lines

T = TypeVar("T", ScriptAnswer, ScriptReply)

#: Seconds beyond C{scriptTimeout} that the process has for its own fallback.
RESERVE = 1.0

#: How the sentence ends that says that the process is gone, by C{scriptError}.
GONE = {
    "reject": "what it is asked about is refused from now on (scriptError)",
    "rules": "the rules decide from now on (scriptError)",
}

#: What a script is told about a flow.
FLOW = ("domain", "port", "protocol", "address", "source", "sourcePort", "local", "id")


_log = Logger()


@dataclass(frozen=True)
class _Question(Generic[T]):
    """
    One of the functions that are asked.

    @ivar read: reads the message that answers.
    @ivar instead: the answer if that does not come; takes what failed, for a sentence.
    @ivar stopped: the answer once the script is stopped.
    """

    name: str
    read: Callable[[dict[str, Any]], T]
    instead: Callable[[str], T]
    stopped: T


@implementer(IScript, IPart)
class RemoteScript:
    """
    See the module.

    @ivar needsProcess: see L{IScript}, as are C{decides}, C{followsFlows}, C{answersQueries}.
    @param hello: what the process said of its script.
    @param connect: connects the protocol that it is given to the process, once.
    @param why: how the process has ended, such as C{"status 1"}; empty if that is not known.
    """

    name = "the script"

    def __init__(
        self,
        path: str,
        hello: Hello,
        options: ScriptOptions,
        clock: IReactorTime,
        connect: Callable[[Lines], object],
        why: Callable[[], str],
    ) -> None:
        self.path = path
        self.needsProcess, self.decides, self.followsFlows, self.answersQueries = hello
        self._options = options
        self._clock = clock
        self._connect = connect
        self._why = why
        self._failures = Failures(path, (), clock)
        self._lines = _Answers(self._heard, self._lost)
        self._last = 0
        # With what reads the message that answers.
        self._waiting: dict[int, tuple[Deferred[Any], Callable[[dict[str, Any]], object]]] = {}
        self._gone = ""
        self._stopping: Deferred[None] | None = None
        refusal = ScriptAnswer("reject", "nanotun stops")
        self._flow = _Question("flow", self._readAnswer, self._noAnswer, refusal)
        nothing = ScriptReply(refused=True)
        self._query = _Question("query", self._readReply, self._noReply, nothing)

    def start(self) -> None:
        """See L{IPart.start}.  C{start} of the script has run before the process said hello."""
        self._connect(self._lines)

    def stop(self) -> Deferred[None] | None:
        """
        See L{IPart.stop}.

        @return: fires when the process has closed its end.
        """
        self._stopping = Deferred()
        self._failures.stop()
        if self._gone or self._lines.transport is None:
            return None
        self._lines.put(stop=True)
        return self._stopping

    def decide(self, flow: Flow) -> ScriptAnswer | Deferred[ScriptAnswer]:
        """See L{IScript.decide}."""
        return self._ask(self._flow, {"flow": _told(flow)})

    def query(self, query: Query) -> ScriptReply | Deferred[ScriptReply]:
        """See L{IScript.query}."""
        return self._ask(self._query, {"query": query._asdict()})

    def ended(self, flow: Flow, end: End) -> None:
        """See L{IScript.ended}."""
        if self._stopping is not None or self._gone:
            return
        if len(self._waiting) >= RUNNING_LIMIT:
            self._failures.tooMany("ended", RUNNING_LIMIT)
            return
        # Answered as well, so that no more of them pile up than there may be.
        work = self._call({"flow": _told(flow), "end": end._asdict()}, _ignore)
        work.addErrback(lambda reason: None)

    def _ask(self, kind: _Question[T], about: dict[str, object]) -> T | Deferred[T]:
        if self._stopping is not None:
            return kind.stopped
        if self._gone:
            return kind.instead(self._gone)
        if len(self._waiting) >= RUNNING_LIMIT:
            onError = self._options.onError
            return kind.instead(self._failures.tooMany(kind.name, RUNNING_LIMIT, onError))
        work = self._call(about, kind.read)
        waiting: Awaited[T] = Awaited(work)

        def finish(outcome: Any) -> None:
            if waiting.given:
                return
            if isinstance(outcome, Failure):
                outcome = kind.stopped if self._stopping else kind.instead(self._gone)
            waiting.give(outcome)

        def late() -> None:
            timeout, onError = self._options.timeout, self._options.onError
            what = self._failures.tookTooLong(kind.name, timeout, ("", 0), onError)
            waiting.give(kind.instead(what))
            work.cancel()

        work.addBoth(finish)
        if waiting.given:
            assert waiting.value is not None
            return waiting.value
        return waiting.wait(self._clock, self._options.timeout + RESERVE, late)

    def _call(
        self, about: dict[str, object], read: Callable[[dict[str, Any]], object]
    ) -> Deferred[Any]:
        """
        Send a question.

        @param read: reads the message that answers it.
        @return: fires with what that makes of it, and fails if the process is gone.  It counts
            until it is answered, even if it is cancelled.
        """
        self._last = number = self._last + 1

        def giveUp(work: Deferred[Any]) -> None:
            self._waiting[number] = work, _ignore
            self._lines.put(cancel=number)

        work: Deferred[Any] = Deferred(giveUp)
        self._waiting[number] = work, read
        self._lines.put(id=number, **about)
        return work

    def _heard(self, message: dict[str, Any]) -> None:
        """
        Take a message of the process.

        @raise Exception: it is none.
        """
        if "log" in message:
            logFor(message)
            return
        number = message["id"]
        work, read = self._waiting[number]
        result = read(message)
        del self._waiting[number]
        if not work.called:
            work.callback(result)

    def _lost(self, sentence: str) -> None:
        """
        The process is gone.

        @param sentence: what it did wrong; empty if it has just ended.
        """
        waiting, self._waiting = self._waiting, {}
        if self._stopping is None:
            self._gone = "has ended"
            why = sentence or self._why()
            _log.error(
                "The process of the script {path} has ended{why}; {then}.",
                path=self.path,
                why=f" ({why})" if why else "",
                then=GONE[self._options.onError],
            )
        for work, _ in waiting.values():
            if not work.called:
                work.errback(ConnectionError("the process of the script is gone"))
        if self._stopping is not None and not self._stopping.called:
            self._stopping.callback(None)

    def _readAnswer(self, message: dict[str, Any]) -> ScriptAnswer:
        to, reason, values = message["to"], str(message["reason"]), dict(message["values"])
        if not to:
            return ScriptAnswer("", reason)
        return readAnswer(Through(to, **values), self._options.names, reason)

    def _noAnswer(self, what: str) -> ScriptAnswer:
        reason = f"the script {self.path} {what}"
        if self._options.onError == "rules":
            return ScriptAnswer("", reason)
        return ScriptAnswer("reject", f"{reason}, and scriptError is reject")

    def _readReply(self, message: dict[str, Any]) -> ScriptReply:
        return readReply(message["reply"])

    def _noReply(self, what: str) -> ScriptReply:
        return ScriptReply(refused=self._options.onError == "reject")


class _Answers(Lines):
    """
    The parent's end of the channel.

    @param heard: takes each message, and raises if it is none.
    @param lost: called once at the end, with what the process did wrong.
    """

    def __init__(
        self, heard: Callable[[dict[str, Any]], None], lost: Callable[[str], None]
    ) -> None:
        self._heard = heard
        self._lost = lost
        self._wrong = ""

    def lineReceived(self, line: bytes) -> None:
        """See L{twisted.protocols.basic.LineOnlyReceiver.lineReceived}."""
        if self._wrong:
            return
        try:
            self._heard(json.loads(line))
        except Exception:
            self._refuse()

    def lineLengthExceeded(self, line: bytes) -> None:
        """See L{twisted.protocols.basic.LineOnlyReceiver.lineLengthExceeded}."""
        self._refuse()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{twisted.internet.protocol.Protocol.connectionLost}."""
        self._lost(self._wrong)

    def _refuse(self) -> None:
        self._wrong = "it sent what is no answer"
        self.transport.abortConnection()


def logFor(message: dict[str, Any]) -> None:
    """
    Log a line of the process.

    @raise Exception: it is none.
    """
    level, text = LogLevel.lookupByName(message["log"]), str(message["text"])
    _log.emit(level, "{text}", text=text)


def _ignore(message: dict[str, Any]) -> None:
    """Read the message that says that something is done."""


def _told(flow: Flow) -> dict[str, object]:
    return {name: getattr(flow, name) for name in FLOW}
