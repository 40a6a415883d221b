"""
Steps of a script's coroutines, and names in its code.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Generator
from types import CodeType, coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from nanotun.scripting.failures import ASYNCIO
from nanotun.scripting.slow import SlowCalls

#: The attribute of a Deferred that has its failure.
_FAILURE = "nanotunFailure"

#: The attribute that counts who waits for one.
_WAITING = "nanotunWaiting"


def mentions(code: CodeType, name: str) -> bool:
    """
    Whether code, or a function in it, has an attribute or a global variable of a name, or a
    pattern of C{match} with such an attribute, which are kept as a tuple.
    """
    return name in code.co_names or any(
        mentions(each, name)
        if isinstance(each, CodeType)
        else isinstance(each, tuple) and name in each
        for each in code.co_consts
    )


@coroutine
def timed(inner: Coroutine[Any, Any, Any], slow: SlowCalls, name: str) -> Generator[Any, Any, Any]:
    """
    Run a coroutine, and measure each of its steps.

    @param name: of the function that nanotun has called.
    """
    step: Any = inner.send
    value: Any = None
    while True:
        since = slow.enter(name)
        try:
            waited = step(value)
        except StopIteration as stop:
            return stop.value
        finally:
            slow.leave(since)
        if not isinstance(waited, Deferred):
            what = f"it awaits {type(waited).__name__}, which is no Deferred: {ASYNCIO}"
            step, value = inner.throw, TypeError(what)
            continue
        try:
            value, step = (yield branch(waited)), inner.send
        except GeneratorExit:
            inner.close()
            raise
        except BaseException as error:
            step, value = inner.throw, error


def branch(shared: Deferred[Any]) -> Deferred[Any]:
    """
    What fires as a Deferred of the script's does.

    Several flows may wait for the same one.  By itself it would give the first its result, and
    L{None} to the others, by which they would be left to the rules, or worse.  And the first
    that gives up would give up for the others; so the last does.
    """

    def giveUp(_: object) -> None:
        left = getattr(shared, _WAITING) - 1
        setattr(shared, _WAITING, left)
        if not left:
            shared.cancel()

    own: Deferred[Any] = Deferred(giveUp)
    setattr(shared, _WAITING, getattr(shared, _WAITING, 0) + 1)

    def goOn(outcome: object) -> object:
        if isinstance(outcome, Failure):
            # Not in the Deferred's result: an error that was dealt with would be logged again.
            setattr(shared, _FAILURE, outcome)
        if not own.called:
            own.callback(getattr(shared, _FAILURE, outcome))
        return None if isinstance(outcome, Failure) else outcome

    shared.addBoth(goOn)
    return own


def lineOf(work: Any, files: Collection[str]) -> tuple[str, int]:
    """
    Where a coroutine waits: the innermost place in the script.

    @return: the file and the line; empty and 0 if it is in none of the script's files, or if
        it is no coroutine that waits.
    """
    found = "", 0
    while work is not None:
        frame = getattr(work, "cr_frame", None) or getattr(work, "gi_frame", None)
        if frame is not None and frame.f_code.co_filename in files:
            found = frame.f_code.co_filename, frame.f_lineno
        work = getattr(work, "cr_await", None) or getattr(work, "gi_yieldfrom", None)
    return found
