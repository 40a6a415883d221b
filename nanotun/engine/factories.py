"""
The C{simple} engine: fixed windows and none of the loss recovery that a link
within one machine never needs.
"""

from __future__ import annotations

from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from nanotun.engine import abi
from nanotun.engine.native import NativeEngine
from nanotun.interfaces import IPacketEngine, IPacketEngineFactory


class SimpleEngine(NativeEngine):
    """Little overhead: the choice for speed and many flows."""

    stackMode = "simple"
    stack = abi.NS_STACK_SIMPLE


@implementer(IPacketEngineFactory, IPlugin)
class SimpleEngineFactory:
    """The plugin for C{stackMode: simple}."""

    stackMode = SimpleEngine.stackMode

    def createEngine(self, reactor: Any, udpTimeout: float) -> IPacketEngine:
        """See L{IPacketEngineFactory.createEngine}."""
        return SimpleEngine(reactor, udpTimeout)
