"""
The native library, for what works with or without an engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from nanotun.engine import abi


class OnDemand:
    """
    Has the library loaded when it is needed first.

    @param load: makes the L{abi.NativeLibrary}.
    """

    def __init__(self, load: Callable[[], abi.NativeLibrary] = abi.NativeLibrary.load) -> None:
        self._load = load

    @cached_property
    def library(self) -> abi.NativeLibrary:
        """
        The library.

        @raise nanotun.errors.EngineError: it cannot be loaded.
        """
        return self._load()
