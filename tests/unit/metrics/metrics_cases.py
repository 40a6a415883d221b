"""
A report with every section, and what else the metrics are made of.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from nanotun.metrics.families import Counted, Families
from nanotun.timer import Durations
from tests.unit.console.status_cases import REPORT

FULL: dict[str, Any] = {
    **REPORT,
    "verdicts": {"paths": {"engine": 5, "standing": 40, "general": 1}, "dialling": 2},
    "upstreams": {
        "proxy": {
            "proxies": [
                {
                    "url": "socks5://a.test:1080",
                    "health": "up",
                    "latency": 0.02,
                    "pool": {"idle": 3, "dialling": 1},
                },
                {
                    "url": "http://192.0.2.2:3128",
                    "health": "down",
                    "latency": None,
                    "pool": None,
                },
            ]
        },
        "office": {
            "proxies": [
                {
                    "url": "https://gate.example:443",
                    "health": "unknown",
                    "latency": None,
                    "pool": None,
                }
            ]
        },
    },
    "processes": {"lookups": 12, "misses": 3, "waiting": 1},
    "script": {"asked": 20, "failed": 2, "late": 1, "blocked": 4},
}

DECISIONS = {
    ("proxy", "default", "proxy"): 40,
    ("proxy", "#2", "office"): 5,
    ("serve", "gateway", ""): 7,
    ("reject", "", "reject"): 9,
}


def durations(*seconds: float) -> Durations:
    """Some durations, in two ranges and what is longer."""
    made = Durations((0.1, 1.0))
    for each in seconds:
        made.add(each)
    return made


def counted(**different: Any) -> Counted:
    """What is asked for, of which some may be different."""
    made = Counted(
        lambda: FULL,
        lambda: DECISIONS,
        lambda: {"proxy": durations(0.05, 0.5, 3.0)},
        lambda: {("proxy", "upstream"): 2},
    )
    return made._replace(**{name: (lambda v=value: v) for name, value in different.items()})


def samples(asked: Counted) -> dict[str, float]:
    """
    The values on the page, by name and labels as a query names them.  The page is read by a
    parser of OpenMetrics.
    """
    registry = CollectorRegistry()
    registry.register(Families(asked, 1234.5, durations(0.05)))
    text = generate_latest(registry).decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} is there twice"
            found[name] = sample.value
    return found
