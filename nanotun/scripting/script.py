"""
The user's script, as the judge, the router and the relay see it.

Rules
 - Whatever the script does, the caller gets an answer: the script's own, or that of
   C{scriptError}.
 - An answer that takes longer than C{scriptTimeout} is not waited for: the caller gets the
   fallback, and the work is cancelled.  It counts as running until it has really ended.
 - Nothing of the script is called before L{Script.start}, except for an explanation; nor after
   L{Script.stop}, except that answers which are awaited may still come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import iscoroutine, signature
from typing import Any, Generic, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import ConfigError
from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.interfaces import IPart, IScript
from nanotun.script import End, Flow, Query
from nanotun.scripting.answers import readAnswer, readReply
from nanotun.scripting.awaited import Awaited
from nanotun.scripting.calls import branch, lineOf, mentions, timed
from nanotun.scripting.failures import Failures
from nanotun.scripting.load import Loaded, described
from nanotun.scripting.slow import SlowCalls

T = TypeVar("T", ScriptAnswer, ScriptReply)

#: Coroutines and Deferreds that may wait at a time.  The engine lets 4,096 flows wait.
RUNNING_LIMIT = 1000

#: The functions of a script; it has to have one of the first three.
FUNCTIONS = ("flow", "ended", "query", "start", "stop")

#: What each of them is called with.
_ARGUMENTS = {"flow": ("flow",), "ended": ("flow", "end"), "query": ("query",)}


class ScriptOptions(NamedTuple):
    """
    What the settings say of the script.

    @ivar timeout: seconds that an answer may take.
    @ivar onError: C{"reject"} or C{"rules"}.
    @ivar names: what it may answer about a flow; see L{readAnswer}.
    """

    timeout: float
    onError: str
    names: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class _Asked(Generic[T]):
    """
    One of the functions that are asked.

    @ivar function: L{None} if the script has none.
    @ivar read: reads what it returned.
    @ivar instead: the answer if it failed; takes what failed, for a sentence.
    @ivar stopped: the answer once the script is stopped.
    """

    name: str
    function: Any
    read: Callable[[object], T]
    instead: Callable[[str], T]
    stopped: T


@implementer(IScript, IPart)
class Script:
    """
    See the module.

    @ivar needsProcess: see L{IScript}, as are C{decides}, C{followsFlows}, C{answersQueries}.
    @ivar starts: whether it has a function that has to be called first.
    @ivar asked: how many answers it was asked for.
    @ivar running: how many of its coroutines and Deferreds have not ended.
    """

    name = "the script"

    def __init__(self, loaded: Loaded, options: ScriptOptions, clock: IReactorTime) -> None:
        """
        @raise ConfigError: it has none of the functions, or one that cannot be called; it is
            unloaded then.
        """
        self.path = path = loaded.path
        self.asked = self.running = 0
        self._loaded = loaded
        self._options = options
        self._clock = clock
        self._stopped = False
        # Who answers once this is stopped: another version, or the rules, or nobody.
        self._heir: IScript | None = None
        self._left = False
        self._files = files = loaded.finder.files
        self._failures = Failures(path, files, clock)
        self._slow = SlowCalls(files, self._failures.slow, clock.seconds)
        self._functions = found = _functionsOf(loaded)
        self.decides = found["flow"] is not None
        self.followsFlows = found["ended"] is not None
        self.answersQueries = found["query"] is not None
        self.starts = found["start"] is not None
        needs = vars(loaded.module).get("needsProcess")
        if needs is None:
            needs = any(mentions(each, "process") for each in loaded.finder.code)
        self.needsProcess = bool(needs)
        refusal = ScriptAnswer("reject", "nanotun stops")
        self._flow = _Asked("flow", found["flow"], self._readAnswer, self._noAnswer, refusal)
        nothing = ScriptReply(refused=True)
        self._query = _Asked("query", found["query"], readReply, self._noReply, nothing)

    def configure(self, options: ScriptOptions) -> None:
        """Follow other settings from now on."""
        self._options = options

    def isCurrent(self) -> bool:
        """Whether its files are as they were when they were read."""
        return self._loaded.finder.isCurrent()

    def start(self) -> None:
        """
        See L{IPart.start}.  What the script waits for there is not waited for here.

        @raise ConfigError: C{start} of the script raised before it waited for anything.
        """
        start = self._functions["start"]
        if start is None:
            return
        failure = None
        try:
            result = start()
        except KeyboardInterrupt:
            raise
        except BaseException:
            failure = Failure()
        else:
            if _isWork(result):
                result = self._run("start", result)
                failure = _failureNow(result)
        if failure is not None:
            what = described(failure, self.path, self._files)
            raise ConfigError(f"The script {self.path} failed in start: {what}.")
        self._follow("start", result)

    def stop(self) -> Deferred[None] | None:
        """See L{IPart.stop}.  Answers that are awaited may still come."""
        self._stopped = True
        done = self._tell("stop")
        self.unload()
        return done

    def leaveTo(self, heir: IScript | None) -> None:
        """
        Stop, because another version has taken over.  Whoever still asks this one, for a flow
        that has been waiting for something else, gets the answer of the other one.

        @param heir: L{None} if there is no script any more, and the rules decide.
        """
        self._heir, self._left = heir, heir is None
        self.stop()

    def unload(self) -> None:
        """Leave nothing behind, in imports or timers; enough if it was never started."""
        self._slow.stop()
        self._failures.stop()
        self._loaded.unload()

    def report(self) -> dict[str, Any]:
        """For C{nanotun status}."""
        failures = self._failures
        return {
            "path": self.path,
            "asked": self.asked,
            "failed": failures.failed,
            "late": failures.late,
            "blocked": failures.blocked,
            "waiting": self.running,
            "needsProcess": self.needsProcess,
        }

    def decide(self, flow: Flow) -> ScriptAnswer | Deferred[ScriptAnswer]:
        """See L{IScript.decide}."""
        if self._heir is not None:
            return self._heir.decide(flow)
        return self._ask(self._flow, flow)

    def query(self, query: Query) -> ScriptReply | Deferred[ScriptReply]:
        """See L{IScript.query}."""
        if self._heir is not None:
            return self._heir.query(query)
        return self._ask(self._query, query)

    def ended(self, flow: Flow, end: End) -> None:
        """See L{IScript.ended}."""
        if not self._stopped:
            self._tell("ended", flow, end)

    def _tell(self, name: str, *about: object) -> Deferred[None] | None:
        """Call a function whose result is of no interest."""
        function = self._functions[name]
        if function is None:
            return None
        since = self._slow.enter(name)
        try:
            result = function(*about)
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._failures.raised(name, function, Failure())
            return None
        finally:
            self._slow.leave(since)
        return self._follow(name, result)

    def _follow(self, name: str, result: Any) -> Deferred[None] | None:
        """Run the coroutine that a function returned, if it did, and log it if that fails."""
        if not _isWork(result):
            return None
        # There is one stop, and it may have to save what the others have left.
        if self.running >= RUNNING_LIMIT and name != "stop":
            _drop(result)
            self._failures.tooMany(name, RUNNING_LIMIT)
            return None
        self.running += 1

        def finish(result: object) -> None:
            self.running -= 1
            if isinstance(result, Failure):
                self._failures.raised(name, self._functions[name], result)

        return self._run(name, result).addBoth(finish)

    def _readAnswer(self, result: object) -> ScriptAnswer:
        return readAnswer(result, self._options.names, f"the script {self.path} says so")

    def _noAnswer(self, what: str) -> ScriptAnswer:
        reason = f"the script {self.path} {what}"
        if self._options.onError == "rules":
            return ScriptAnswer("", reason)
        return ScriptAnswer("reject", f"{reason}, and scriptError is reject")

    def _noReply(self, what: str) -> ScriptReply:
        return ScriptReply(refused=self._options.onError == "reject")

    def _ask(self, asked: _Asked[T], about: object) -> T | Deferred[T]:
        if self._stopped and not self._left:
            return asked.stopped
        if asked.function is None or self._left:
            return asked.read(None)
        self.asked += 1
        since = self._slow.enter(asked.name)
        try:
            result = asked.function(about)
        except KeyboardInterrupt:
            raise
        except BaseException:
            return self._failed(asked, Failure())
        finally:
            self._slow.leave(since)
        return self._await(asked, result) if _isWork(result) else self._read(asked, result)

    def _read(self, asked: _Asked[T], result: object) -> T:
        try:
            return asked.read(result)
        except Exception:
            return self._failed(asked, Failure())

    def _failed(self, asked: _Asked[T], reason: Failure) -> T:
        onError = self._options.onError
        return asked.instead(self._failures.raised(asked.name, asked.function, reason, onError))

    def _await(self, asked: _Asked[T], result: Any) -> T | Deferred[T]:
        if self.running >= RUNNING_LIMIT:
            _drop(result)
            what = self._failures.tooMany(asked.name, RUNNING_LIMIT, self._options.onError)
            return asked.instead(what)
        self.running += 1
        work = self._run(asked.name, result)
        waiting: Awaited[T] = Awaited(work)

        def finish(outcome: object) -> None:
            self.running -= 1
            if waiting.given:
                return
            if isinstance(outcome, Failure):
                waiting.give(self._failed(asked, outcome))
            else:
                waiting.give(self._read(asked, outcome))

        def late() -> None:
            timeout, onError = self._options.timeout, self._options.onError
            place = lineOf(result, self._files)
            what = self._failures.tookTooLong(asked.name, timeout, place, onError)
            waiting.give(asked.instead(what))
            work.cancel()

        work.addBoth(finish)
        if waiting.given:
            assert waiting.value is not None
            return waiting.value
        return waiting.wait(self._clock, self._options.timeout, late)

    def _run(self, name: str, result: Any) -> Deferred[Any]:
        if isinstance(result, Deferred):
            return branch(result)
        return Deferred.fromCoroutine(timed(result, self._slow, name))


def _functionsOf(loaded: Loaded) -> dict[str, Any]:
    found = {name: vars(loaded.module).get(name) for name in FUNCTIONS}
    wrong = ""
    if not any(found[name] is not None for name in FUNCTIONS[:3]):
        wrong = "does nothing: it has no function flow, ended or query"
    for name, function in found.items():
        if function is None:
            continue
        arguments = _ARGUMENTS.get(name, ())
        if not callable(function):
            wrong = f"has a {name} that is no function"
        elif not _takes(function, arguments):
            call = f"{name}({', '.join(arguments)})"
            wrong = f"has a function that cannot be called as {call}; write 'def {call}'"
    if wrong:
        loaded.unload()
        raise ConfigError(f"The script {loaded.path} {wrong}.")
    return found


def _takes(function: Callable[..., object], arguments: tuple[str, ...]) -> bool:
    try:
        signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # One that is not written in Python may not say.
        return True
    return True


def _isWork(result: object) -> bool:
    """Whether a function has returned something that has to be waited for."""
    return iscoroutine(result) or isinstance(result, Deferred)


def _failureNow(work: Deferred[Any]) -> Failure | None:
    """Why something has failed that had to wait for nothing; L{None} if it has not."""
    reason = work.result if work.called else None
    if not isinstance(reason, Failure):
        return None
    work.addErrback(lambda reason: None)
    return reason


def _drop(result: Any) -> None:
    """Give up what a function has returned."""
    if isinstance(result, Deferred):
        result = branch(result)
        result.addErrback(lambda reason: None)
        result.cancel()
    else:
        result.close()
