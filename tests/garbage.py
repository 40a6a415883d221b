"""
What a piece of work leaves to the garbage collector.
"""

from __future__ import annotations

import gc
from collections.abc import Callable


def garbageOf(work: Callable[[], object]) -> list[str]:
    """
    The types of the objects that only the garbage collector can free after C{work}.

    @param work: called twice, as the first time may fill caches.
    """
    work()
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    before = len(gc.garbage)
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        work()
        gc.collect()
        return sorted(type(each).__qualname__ for each in gc.garbage[before:])
    finally:
        gc.set_debug(0)
        del gc.garbage[before:]
        if enabled:
            gc.enable()
