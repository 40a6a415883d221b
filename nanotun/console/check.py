"""
C{nanotun check}: whether a daemon could be started with a configuration.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from twisted.python import usage

from nanotun.config.askedservers import shownWays
from nanotun.config.notices import namesInClear
from nanotun.config.options import DEFAULT_FILE, Options
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import upstreamsOf
from nanotun.console import GOOD
from nanotun.console.command import run
from nanotun.interfaces import UpstreamSettings


class CheckOptions(Options):
    """The command line: a file, and the daemon's own options."""

    synopsis = "Usage: nanotun check [FILE] [options of 'nanotun start']"
    longdesc = (
        "Reads a configuration file as a start would, with the files that it names, and says what "
        f"is wrong with it. Without FILE it reads {DEFAULT_FILE}. Opens no connection and changes "
        "nothing."
    )

    def parseArgs(self, *files: str) -> None:
        """Take the file; without one, there must be something else to check."""
        if len(files) > 1 or (files and self["config"] is not None):
            raise usage.UsageError("one FILE at a time")
        if files:
            self["config"] = files[0]
        self.takeDefault()
        if self["config"] is None and self["proxy"] is None:
            raise usage.UsageError(f"a FILE is missing, and there is no {DEFAULT_FILE}")

    def postOptions(self) -> None:
        """Does nothing: L{main} reads the settings and reports errors."""


def summary(settings: Settings, script: str = "", lists: Sequence[str] = ()) -> list[str]:
    """
    The main settings, in a few lines.

    @param script: what the script has and needs.
    @param lists: how much is in each list of the rules.
    """
    entries = upstreamsOf(settings)
    named = (each for each in entries.values() if each.name != PROXY)
    mode = "fake-ip, " if settings.dnsMode == "fake-ip" else ""
    excluded = len(settings.excludedProcesses), len(settings.excludedIPs)
    return [
        f"proxy    {_proxies(entries[PROXY])}",
        *(f"upstream {each.name}: {_proxies(each)}" for each in named),
        f"device   {settings.tunName}, MTU {settings.mtu}, engine {settings.stackMode}",
        f"dns      {mode}{shownWays(settings)}",
        *_names(settings),
        f"past it  processes: {excluded[0]}, networks: {excluded[1]}, lan: {settings.lan}",
        f"rules    {len(settings.rules)}, default {settings.default}",
        *(f"list     {each}" for each in lists),
        *([f"script   {script}"] if script else []),
        f"routes   {_routes(settings)}",
    ]


def _names(settings: Settings) -> list[str]:
    """What comes before the servers of C{dns}; no line if nothing does."""
    found = [f"dnsRules: {len(settings.dnsRules)}"] if settings.dnsRules else []
    found += ["hosts"] if settings.hosts else []
    if settings.dnsRejected is not None:
        found.append(f"rejected names: {settings.dnsRejected}")
    return [f"names    {', '.join(found)}"] if found else []


def _routes(settings: Settings) -> str:
    if not settings.autoDefaultRoute:
        return "left as they are"
    only = len(settings.onlyProcesses)
    return f"changed, only for users and groups: {only}" if only else "changed"


def _proxies(entry: UpstreamSettings) -> str:
    text = ", ".join(str(proxy) for proxy in entry.proxy)
    if len(entry.proxy) > 1:
        text += f" ({entry.policy})"
    return f"{text} through {entry.via}" if entry.via else text


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = CheckOptions()

    def work() -> int:
        options.readSettings(os.geteuid(), os.environ)
        # Imported here because it takes a moment, and a wrong command line need not wait.
        from nanotun.daemon.checking import checkFiles
        from nanotun.timer import steadyReactor

        found = checkFiles(options.settings, steadyReactor())
        for notice in (*options.notices, *found.notices, *namesInClear(options.settings)):
            print(f"warning: {notice}", file=sys.stderr)
        print(f"OK: {options['config'] or 'the command line'}")
        for line in summary(options.settings, found.script, found.lists):
            print(f"  {line}")
        return GOOD

    return run("check", options, arguments, work)
