"""
From a flow as the daemon describes it to the values that nanotun knows it by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanotun.flow import Endpoint, Flow, Protocol


def endpointOf(text: str) -> Endpoint:
    """An endpoint, as it is written: C{192.0.2.1:443} or C{[2001:db8::1]:443}."""
    host, _, port = text.rpartition(":")
    return Endpoint(host.strip("[]"), int(port))


def flowOf(described: Mapping[str, Any]) -> Flow:
    """The flow that a JSON object describes (docs/flows.md)."""
    return Flow(
        described["id"],
        Protocol[described["protocol"].upper()],
        endpointOf(described["source"]),
        endpointOf(described["destination"]),
    )
