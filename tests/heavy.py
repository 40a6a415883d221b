"""
What a daemon with a plain configuration has no use for, and would be slow and large with.
"""

from __future__ import annotations

from collections.abc import Iterable

HEAVY = {
    "pyroute2": "a tenth of a second and 8 MB; with autoDefaultRoute only",
    "sqlite3": "by pyroute2, and with flowLog only",
    "twisted.enterprise": "with flowLog only",
    "nanotun.history": "with flowLog only",
    "psutil": "by pyroute2, and for the doctor",
    "multiprocessing": "by pyroute2",
    "unittest": "by a search for Twisted's plugins",
    "twisted.trial": "by a search for Twisted's plugins",
    "twisted.cred": "by a search for Twisted's plugins",
    "twisted.words": "by a search for Twisted's plugins",
    "twisted.mail": "no mail is sent",
    "twisted.web": "HTTP is spoken with h11; for metrics and web only",
    "prometheus_client": "for metrics only",
    "twisted.internet.inotify": "runs ldconfig(8); for the control groups of onlyProcesses only",
    "automat": "see nanotun.timer.backOff",
    "h11": "for HTTP proxies only",
    "h2": "for DNS over HTTPS only",
    "maxminddb": "for rules about countries only",
    "rich": "for the screen of the command only",
    "nanotun.doctor": "a command of its own",
    "nanotun.scripting": "for a script only",
    "nanotun.httpd": "for metrics and web only",
    "nanotun.metrics": "for metrics only",
    "nanotun.web": "for web only",
    "nanotun.router.dialtimes": "for metrics only",
    "nanotun.daemon.explain": "for nanotun explain only",
    "nanotun.routing.make": "with autoDefaultRoute only",
    "nanotun.routing.firewall.firewall": "with autoDefaultRoute only",
    "nanotun.owners.make": "for rules about processes only",
}
"""Modules and packages, and why they are not imported."""


def heavyAmong(modules: Iterable[str]) -> list[str]:
    """Those of L{HEAVY}, or below one, that are among some modules."""
    return sorted(
        name
        for name in modules
        if any(name == heavy or name.startswith(f"{heavy}.") for heavy in HEAVY)
    )
