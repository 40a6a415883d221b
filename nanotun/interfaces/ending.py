"""
How the daemon ends.
"""

from __future__ import annotations

import enum


class End(enum.Enum):
    """
    How the daemon ends, which decides whether a kill switch stays closed.

    @cvar STOP: somebody wants it to end.
    @cvar RESTART: somebody wants it to end and to start again, or the machine goes down.
    @cvar FAILED: the device or the engine is lost.
    @cvar NOT_STARTED: a step of the start failed.
    """

    STOP = "stop"
    RESTART = "restart"
    FAILED = "failed"
    NOT_STARTED = "not started"
