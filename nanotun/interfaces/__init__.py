"""
Every zope interface of nanotun, and nothing else.

All methods are called on the reactor's thread.
"""

from __future__ import annotations

from nanotun.interfaces.device import ITunDevice, ITunOpener
from nanotun.interfaces.engine import (
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IGateway,
    IPacketEngine,
    IPacketEngineFactory,
)
from nanotun.interfaces.upstream import IHandshake, IHealthCheck, ILegControl, IUpstream

__all__ = [
    "IDatagramFlowRequest",
    "IFlowHandler",
    "IFlowRequest",
    "IGateway",
    "IHandshake",
    "IHealthCheck",
    "ILegControl",
    "IPacketEngine",
    "IPacketEngineFactory",
    "ITunDevice",
    "ITunOpener",
    "IUpstream",
]
