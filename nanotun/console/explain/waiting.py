"""
Waits for something that takes a while, in a program that does nothing else.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def blockOn(waited: Deferred[T], reactor: Any) -> T:
    """
    Run the reactor until something has fired; not at all if it has already.

    @param reactor: not running, and of no use to anybody else.
    @return: its result.
    @raise Exception: it has failed, with this.
    @raise KeyboardInterrupt: a signal came first.
    """
    found: list[T | Failure] = []

    waited.addBoth(found.append)
    if not found:
        waited.addBoth(lambda result: reactor.stop())
        reactor.run()
    if not found:
        raise KeyboardInterrupt
    result = found[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result
