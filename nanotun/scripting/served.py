"""
The child's end of a script that runs in a process of its own: answers what the parent asks.

Each message is a line of JSON.  The first one is the child's, a L{Hello} or C{{"error": ...}}.
The parent asks C{{"id": 7, "flow": {...}}}, C{{"id": 7, "query": {...}}}, or
C{{"id": 7, "flow": {...}, "end": {...}}}, and is answered under the same C{id}, whatever
happens.  C{{"cancel": 7}} says that nobody waits for it any more, and C{{"stop": true}} that
the child shall end.  The child sends its log as C{{"log": level, "text": ...}}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import connectionDone
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.script import NOT_LOOKED_UP, End, Flow, Query
from nanotun.scripting.script import Script

#: Bytes of a line.  A flow's name and an answer's values are short; a log's text is cut.
LINE_LIMIT = 64 * 1024

#: Characters of one text in the log, each of which may take twelve bytes.
TEXT_LIMIT = 5000


class Hello(NamedTuple):
    """What the parent has to know of the script; see L{nanotun.interfaces.IScript}."""

    needsProcess: bool
    decides: bool
    followsFlows: bool
    answersQueries: bool


class Lines(LineOnlyReceiver):
    """Messages in both directions."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = LINE_LIMIT

    def put(self, **message: object) -> None:
        """Send a message."""
        self.sendLine(json.dumps(message).encode())


class ServedScript(Lines):
    """
    Answers for a script.

    @param ended: called when the channel is closed and the script is stopped.
    """

    def __init__(self, script: Script, ended: Callable[[], object]) -> None:
        self._script = script
        self._ended = ended
        self._waiting: dict[int, Deferred[Any]] = {}
        self._stopped: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        """See L{twisted.internet.protocol.Protocol.connectionMade}."""
        script = self._script
        hello = Hello(
            script.needsProcess, script.decides, script.followsFlows, script.answersQueries
        )
        self.put(**hello._asdict())

    def lineReceived(self, line: bytes) -> None:
        """See L{LineOnlyReceiver.lineReceived}."""
        message = json.loads(line)
        if "cancel" in message:
            waiting = self._waiting.get(message["cancel"])
            if waiting is not None:
                waiting.cancel()
        elif "stop" in message:
            self._stop().addBoth(lambda result: self.transport.loseConnection())
        elif "end" in message:
            self._script.ended(self._flow(message["flow"]), End(**message["end"]))
            self.put(id=message["id"])
        elif "flow" in message:
            self._answer(message["id"], self._script.decide(self._flow(message["flow"])), decided)
        else:
            self._answer(message["id"], self._script.query(Query(**message["query"])), replied)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{twisted.internet.protocol.Protocol.connectionLost}."""
        self._stop().addBoth(lambda result: self._ended())

    def _flow(self, told: dict[str, Any]) -> Flow:
        # All processes in a cell are the command's, so none is looked for.
        return Flow(**told, process=None if self._script.needsProcess else NOT_LOOKED_UP)

    def _answer(self, number: int, answer: Any, words: Callable[[Any], dict[str, object]]) -> None:
        def done(answer: object) -> None:
            self._waiting.pop(number, None)
            # It fails if it was cancelled, and then nobody waits for it.
            self.put(id=number, **({} if isinstance(answer, Failure) else words(answer)))

        if isinstance(answer, Deferred):
            self._waiting[number] = answer
            answer.addBoth(done)
        else:
            done(answer)

    def _stop(self) -> Deferred[Any]:
        if self._stopped is None:
            self._stopped = self._script.stop() or succeed(None)
        return self._stopped


def decided(answer: ScriptAnswer) -> dict[str, object]:
    """What the parent is told of an answer."""
    return answer._asdict()


def replied(reply: ScriptReply) -> dict[str, object]:
    """What the parent is told of a reply: what C{query} might have returned."""
    return {"reply": "refuse" if reply.refused else reply.server or reply.addresses}


@implementer(ILogObserver)
class LogLines:
    """
    Sends log events to the parent.

    @param send: sends a line.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send

    def __call__(self, event: LogEvent) -> None:
        """See L{twisted.logger.ILogObserver}."""
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)[:TEXT_LIMIT]
        level = cast(Any, event.get("log_level", LogLevel.info)).name
        self._send(json.dumps({"log": level, "text": text}).encode() + b"\n")
