"""
Answers C{nanotun explain}: asks the daemon, or judges by the settings as it does.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from nanotun.config.options import DEFAULT_FILE
from nanotun.config.settings import Settings
from nanotun.console.command import AskOptions
from nanotun.console.explain.options import ExplainOptions
from nanotun.console.explain.owner import scanned
from nanotun.console.explain.waiting import blockOn
from nanotun.console.statustext import printable
from nanotun.control.client import Client
from nanotun.control.lock import findHolder
from nanotun.daemon.asked import addressByAddress
from nanotun.daemon.current import localTime
from nanotun.daemon.described import DescribedOwner, Question, described, isAddress
from nanotun.daemon.explain import LOOK_UP, judged
from nanotun.daemon.lists import readLists
from nanotun.daemon.scripts import scriptFor
from nanotun.errors import NanotunError, NotRunning, RunningError
from nanotun.linux.connected import ConnectedNetworks
from nanotun.linux.locality import Locality
from nanotun.linux.markedroute import MarkedRoute
from nanotun.linux.users import nameOf
from nanotun.policy.dnsnames import namePolicy
from nanotun.policy.judge import Judge
from nanotun.policy.lists import Lists
from nanotun.policy.ruletable import RuleTable
from nanotun.scripting.script import Script
from nanotun.timer import steadyReactor

#: Seconds for the daemon's answer: the longest scriptTimeout, and a reserve.
EXPLAIN_TIME = 130.0

#: Addresses of one name that are judged; nobody tries more.
ADDRESS_LIMIT = 8


def explain(options: ExplainOptions) -> dict[str, Any]:
    """
    Judge the described flow: by the daemon that runs, unless settings are given.

    @return: the answer, under the names of C{--json}.
    @raise nanotun.errors.ConfigError: the settings are wrong, or a file that they name is.
    @raise NanotunError: a name cannot be looked up.
    """
    options.readFlow()
    why = ""
    if not options.givesSettings:
        ask = AskOptions()
        ask["run-dir"] = options["run-dir"]
        try:
            with Client(ask.runDir(), EXPLAIN_TIME) as client:
                return blockOn(
                    addressByAddress(
                        options.question,
                        lambda each: client.ask("explain", each._asdict()),
                        _lookUp,
                    ),
                    steadyReactor(),
                )
        except NotRunning:
            why = ""
        except RunningError as error:
            why = f"The daemon was not asked: {error}"
    options.readAll(os.geteuid(), os.environ)
    settings = options.settings
    lists = readLists(settings, os.geteuid()).lists
    reactor = steadyReactor()
    script = scriptFor(settings, reactor)
    try:
        asked = addressByAddress(
            options.question, lambda each: byTheSettings(settings, lists, each, script), _lookUp
        )
        found = blockOn(asked, reactor)
    finally:
        if script is not None:
            script.unload()
    notes = [why] if why else _aboutDaemon(options)
    if script is not None and script.starts and found["script"] is not None:
        notes.append(
            "The script's start was not called, as only the daemon does that; where the script "
            "needs what it does there, this answer may be another one than the daemon's."
        )
    return {
        **found,
        "notes": [*found["notes"], *notes],
        "by": "defaults" if options.assumed else "file" if options.defaulted else "options",
        "pid": None,
        "config": options["config"],
    }


def _aboutDaemon(options: ExplainOptions) -> list[str]:
    """The note about a daemon that runs and was not asked, because settings are given."""
    try:
        holder = findHolder(options.settings.runDir)
    except RunningError:
        return []
    if holder is None:
        return []
    return [f"A daemon runs (process {holder.pid}); without options it is asked."]


def byTheSettings(
    settings: Settings, lists: Lists, question: Question, script: Script | None = None
) -> dict[str, Any] | Deferred[dict[str, Any]]:
    """
    Judge a flow as a daemon with these settings would.

    @param lists: what the rules take from files.
    @param script: that of the settings.
    """
    table = RuleTable(settings.rules, lists, localTime)
    names = namePolicy(settings, lists, table, script)
    flow = described(question, settings, names, lambda pid: scanned(settings, pid))
    if flow is None:
        return LOOK_UP
    locality = Locality(time.monotonic)

    def isLocal(host: str) -> bool:
        return host == flow.localSource or locality.isLocal(host)

    marked = MarkedRoute(settings.tunName, time.monotonic)
    connected = ConnectedNetworks(settings.tunName, time.monotonic)
    judge = Judge(
        settings,
        DescribedOwner(flow.owner),
        isLocal,
        marked.leadsIn,
        isConnected=connected.holds,
        script=script,
        nameOf=nameOf,
        lists=lists,
        now=localTime,
    )

    def done(found: dict[str, Any]) -> dict[str, Any]:
        marked.stop()
        return found

    return judged(settings, flow, judge, {}, script).addBoth(done)


def _lookUp(question: Question) -> list[str]:
    """
    The addresses of a host name, as programs of this machine get them.

    @raise NanotunError: there is none.
    """
    try:
        found = socket.getaddrinfo(question.host, question.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NanotunError(
            f"{question.host} cannot be looked up ({why}); give an address to leave DNS out of it."
        ) from None
    hosts = dict.fromkeys(str(each[4][0]) for each in found)
    if question.source:
        same = ":" in question.source
        hosts = dict.fromkeys(host for host in hosts if (":" in host) == same)
    usable = [host for host in hosts if isAddress(host)][:ADDRESS_LIMIT]
    if not usable:
        raise NanotunError(f"{question.host} has no address of the IP version of --from.")
    return usable


def settingsOf(options: ExplainOptions) -> str:
    """Where the settings are from that an answer goes by, for people."""
    parts = []
    if options["config"]:
        parts.append(options["config"])
    if options.flags - {"proxy", "runDir"} or ("proxy" in options.flags and not options.assumed):
        parts.append("the options given")
    if options.assumed:
        parts.append(f"the defaults, as no daemon was asked and there is no {DEFAULT_FILE}")
    return " and ".join(parts) or "the environment's variables"


def _health(proxy: Mapping[str, Any]) -> str:
    """One proxy by which the flow would leave."""
    parts = [proxy["url"]]
    if proxy["via"]:
        parts[0] += f" through {proxy['via']}"
    if proxy["login"] is not None:
        parts.append(f"as {proxy['login']}")
    if proxy["health"] == "down":
        parts.append(f"down: {proxy['trouble']}")
    elif proxy["health"] is not None:
        parts.append("not asked yet" if proxy["health"] == "unknown" else proxy["health"])
    if proxy["latency"] is not None:
        parts.append(f"{proxy['latency'] * 1000:.0f} ms")
    return ", ".join(parts)


def _where(block: Mapping[str, Any]) -> str:
    """Where the rule is written that has decided."""
    return f" ({block['where']})" if block.get("where") else ""


def _asked(block: Mapping[str, Any]) -> Iterator[str]:
    """What was asked and has not decided, a line each; nothing of an older daemon."""
    script = block.get("script")
    if script and script["to"] is None:
        yield f"script   {script['reason'] or 'leaves it to the rules'}"
    for step in block.get("steps", ()):
        if step["rule"] != block["rule"]:
            yield f"{step['rule']:<8} {step['value']}: {step['why']}"


def text(found: dict[str, Any], settings: str) -> str:
    """
    The answer for people.

    @param settings: what L{settingsOf} says; does not matter if the daemon has answered.
    """
    who = f" of {found['process']}" if found["process"] else ""
    where = f" from {found['source']}" if found["source"] else ""
    blocks = found.get("answers", [found])
    # An older daemon knows names of no flow.
    called = found.get("addresses") or list(filter(None, [found.get("name")]))
    if found["destination"].rpartition(":")[0] in called:
        called = []
    addresses = f" ({', '.join(called)})" if called else ""
    lines = [f"{found['protocol']} {found['destination']}{addresses}{who}{where}"]
    for block in blocks:
        if len(blocks) > 1:
            lines.append(f"  {', '.join(block['addresses'])}:")
        lines += [
            f"  {block['verdict'].upper():<8} {block['meaning']}",
            f"  rule     {block['rule']}{_where(block)}",
            f"  because  {block['reason']}",
            *(f"  {'' if at else 'asked':<8} {line}" for at, line in enumerate(_asked(block))),
        ]
        # An older daemon does not tell.
        lines += [f"  {block['upstream']:<8} {_health(proxy)}" for proxy in block.get("health", ())]
        if block["trouble"]:
            lines.append(f"  log      {block['trouble']}")
    by = f"the daemon that runs (process {found['pid']})" if found["pid"] else settings
    lines.append(f"  by       {by}")
    notes = dict.fromkeys(note for block in [*blocks, found] for note in block["notes"])
    lines += [f"  note     {note}" for note in notes]
    # A process chooses its own name, so it may contain control characters.
    return "\n".join(map(printable, lines))
