"""
Verified fakes: memory instead of a device, a stack and a proxy.

Each passes the same contract as the real thing (C{tests/contracts/}), which is why all other
tests may use it.
"""

from __future__ import annotations

from nanotun.testing.device import FAKE_FD, FAKE_INDEX, MemoryTun, MemoryTunOpener
from nanotun.testing.dials import NoDials
from nanotun.testing.engine import MemoryEngine, MemoryRequest
from nanotun.testing.gateway import FakeGateway
from nanotun.testing.names import FakeNames
from nanotun.testing.owners import FakeCgroups, FakeProcesses, FakeSockets
from nanotun.testing.policy import FakeJudge, FakeOwners
from nanotun.testing.routes import MemoryRoutes
from nanotun.testing.script import FakeScript
from nanotun.testing.upstream import (
    FAKE_ADDRESS,
    FAKE_TIMEOUT,
    FakeControl,
    FakeDials,
    FakeUpstream,
    FakeUpstreams,
    NamedFakeUpstream,
    PlannedFakeUpstream,
)

__all__ = [
    "FAKE_ADDRESS",
    "FAKE_FD",
    "FAKE_INDEX",
    "FAKE_TIMEOUT",
    "FakeCgroups",
    "FakeControl",
    "FakeDials",
    "FakeGateway",
    "FakeJudge",
    "FakeNames",
    "FakeOwners",
    "FakeProcesses",
    "FakeScript",
    "FakeSockets",
    "FakeUpstream",
    "FakeUpstreams",
    "MemoryEngine",
    "MemoryRequest",
    "MemoryRoutes",
    "MemoryTun",
    "MemoryTunOpener",
    "NamedFakeUpstream",
    "NoDials",
    "PlannedFakeUpstream",
]
