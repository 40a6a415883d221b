"""
Steps of a script's coroutines, and names in its code.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Generator
from types import CodeType, coroutine
from typing import Any

from twisted.internet.defer import Deferred

from nanotun.scripting.failures import ASYNCIO
from nanotun.scripting.slow import SlowCalls


def mentions(code: CodeType, name: str) -> bool:
    """Whether code, or a function in it, has an attribute or a global variable of a name."""
    return name in code.co_names or any(
        mentions(each, name) for each in code.co_consts if isinstance(each, CodeType)
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
            value, step = (yield waited), inner.send
        except GeneratorExit:
            inner.close()
            raise
        except BaseException as error:
            step, value = inner.throw, error


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
