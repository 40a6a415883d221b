"""
A report in the daemon's form, shared by the tests that show it.
"""

from __future__ import annotations

from typing import Any

from nanotun.control.report import engineReport
from nanotun.flow import Stats
from nanotun.gateway import GatewayStats

STATS = Stats(*range(1, len(Stats._fields) + 1))

REPORT: dict[str, Any] = {
    "daemon": {
        "version": "0.1",
        "pid": 4711,
        "uptime": 93784.5,
        "config": "/etc/nanotun.yaml",
        "runDir": "/run/nanotun",
    },
    "device": {"name": "nano0", "mtu": 1500, "offload": True},
    "upstream": {
        "policy": None,
        "proxies": [
            {
                "url": "socks5://192.0.2.1:1080",
                "health": "up",
                "trouble": "",
                "state": "closed",
                "latency": None,
                "udp": None,
                "pool": None,
            }
        ],
    },
    "engine": {"mode": "gvisor", **engineReport(STATS)},
    "dns": {
        "mode": "normal",
        "via": "direct",
        "servers": ["8.8.8.8:53"],
        "asked": [
            {
                "server": "8.8.8.8:53",
                "via": "direct",
                "queries": 40,
                "answers": 39,
                "errors": 1,
                "hits": 80,
                "seconds": 0.9,
                "latency": 0.0234,
                "state": "up",
                "trouble": "",
            }
        ],
        **GatewayStats(*range(len(GatewayStats._fields)))._asdict(),
        "hosts": 3,
        "ruled": 120,
        "rejected": 14,
        "private": 2,
        "absent": 31,
        "stale": 0,
        "rebound": 0,
    },
    "verdicts": None,
    "processes": None,
    "routes": None,
    "resources": {"fds": 23, "rss": 60 * 1024 * 1024, "threads": 9},
}
