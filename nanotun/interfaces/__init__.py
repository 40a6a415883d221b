"""
Every zope interface of nanotun, and nothing else.

All methods are called on the reactor's thread.
"""

from __future__ import annotations

from nanotun.interfaces.device import ITunDevice, ITunOpener
from nanotun.interfaces.diagnosis import ICheck
from nanotun.interfaces.engine import (
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IGateway,
    IPacketEngine,
    IPacketEngineFactory,
)
from nanotun.interfaces.policy import IJudge, IOwners
from nanotun.interfaces.routing import IChange, IKernelRoutes, IPart
from nanotun.interfaces.upstream import IHandshake, IHealthCheck, ILegControl, IUpstream

__all__ = [
    "IChange",
    "ICheck",
    "IDatagramFlowRequest",
    "IFlowHandler",
    "IFlowRequest",
    "IGateway",
    "IHandshake",
    "IHealthCheck",
    "IJudge",
    "IKernelRoutes",
    "ILegControl",
    "IOwners",
    "IPacketEngine",
    "IPacketEngineFactory",
    "IPart",
    "ITunDevice",
    "ITunOpener",
    "IUpstream",
]
