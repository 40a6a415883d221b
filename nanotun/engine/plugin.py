"""
The packet engines' plugins.

Twisted imports C{twisted/plugins/nanotun_plugin.py} whenever it looks for any plugin at
all, so a factory knows the engine's name and imports the binding only to make one.
"""

from __future__ import annotations

from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from nanotun.interfaces import IPacketEngine, IPacketEngineFactory


@implementer(IPacketEngineFactory, IPlugin)
class EngineFactory:
    """
    Makes engines of one C{stackMode}.

    @param stackMode: a key of L{nanotun.engine.native.STACKS}.
    """

    def __init__(self, stackMode: str) -> None:
        self.stackMode = stackMode

    def createEngine(self, reactor: Any, udpTimeout: float) -> IPacketEngine:
        """See L{IPacketEngineFactory.createEngine}."""
        from nanotun.engine.native import NativeEngine

        return NativeEngine(reactor, self.stackMode, udpTimeout)


#: nanotun's own.
ENGINES: tuple[IPacketEngineFactory, IPacketEngineFactory] = (
    EngineFactory("gvisor"),
    EngineFactory("simple"),
)
