"""
What becomes of a flow that somebody describes: the daemon's answer to C{nanotun explain},
which is also given without a daemon, by the same code.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from ipaddress import ip_interface
from socket import AF_INET, AF_INET6, if_nametoindex, inet_pton
from typing import Any, NamedTuple

from zope.interface import implementer

from nanotun.addresses import FAKE4, KERNEL4, KERNEL6
from nanotun.config.settings import Settings
from nanotun.config.upstreams import PROXY, whyNoDatagrams
from nanotun.daemon.health import healthOf
from nanotun.daemon.reload import Live
from nanotun.errors import RunningError
from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.gateway.gateway import givesFake
from nanotun.interfaces import IOwners
from nanotun.owners import matcherOf, soughtBy
from nanotun.owners.values import Excluded, Process, ProcStat, Program
from nanotun.policy.decisions import nameOf
from nanotun.policy.judge import Judge
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.policy.subject import named

#: What happens to a flow, by verdict.
MEANINGS = {
    Verdict.PROXY: "through {upstream}",
    Verdict.DIRECT: "past the proxy, from this machine itself",
    Verdict.SERVE: "answered by nanotun's DNS relay",
    Verdict.REJECT: "refused; the app hears so at once",
    Verdict.DROP: "dropped without a word",
}

#: The answer about a host name that the asker has to look up first.
LOOK_UP = {"lookUp": True}

#: Processes that a note names.
NAMED_LIMIT = 8

#: Source port of the described flow; no rule looks at it.
SOURCE_PORT = 40000

#: What names of which no address is known yet are judged by: no rule tells fake addresses
#: apart.
SOME_FAKE = str(ip_interface(FAKE4).ip + 1)


class Described(NamedTuple):
    """
    A flow that somebody describes.

    @ivar owner: L{None} if its process was not described.
    @ivar localSource: the source address if the flow is this machine's own; empty if it is
        another machine's.
    @ivar name: the host name that was given in the place of a destination address; empty
        if none was.
    """

    flow: Flow
    owner: Owner | None
    localSource: str
    name: str = ""


class Question(NamedTuple):
    """
    A flow in words that fit into JSON.

    @ivar protocol: C{"tcp"} or C{"udp"}.
    @ivar host: the destination, an address or a host name.
    @ivar source: the other machine's address; empty for a flow of this one.
    @ivar process: the fields of a L{Process}, except C{stat}; L{None} if it was not
        described.
    """

    protocol: str
    host: str
    port: int
    source: str
    process: dict[str, Any] | None


@implementer(IOwners)
class DescribedOwner:
    """
    Reports the described process as the owner of every flow.

    @ivar misses: see L{IOwners}; counts the questions about an owner that was not described.
    """

    def __init__(self, owner: Owner | None) -> None:
        self.misses = 0
        self._owner = owner

    def ownerOf(self, flow: Flow) -> Owner | None:
        """See L{IOwners.ownerOf}."""
        if self._owner is None:
            self.misses += 1
        return self._owner


def described(
    question: Question, settings: Settings, scanned: Callable[[int], Excluded | None]
) -> Described | None:
    """
    The flow that a question is about.

    @param scanned: what a scan of all processes says of the one with a pid; L{None} if it is
        neither excluded nor named by a rule.
    @return: L{None} if the host is a name that has to be looked up first.
    @raise ValueError, TypeError, KeyError: this is no question.
    """
    host, name = question.host, ""
    if not isAddress(host):
        if not givesFake(settings, host):
            return None
        host, name = SOME_FAKE, host
    source = question.source or str(ip_interface(KERNEL6 if ":" in host else KERNEL4).ip)
    if not isAddress(source) or not 1 <= question.port <= 65535:
        raise ValueError(question)
    protocol = Protocol[question.protocol.upper()]
    flow = Flow(1, protocol, Endpoint(source, SOURCE_PORT), Endpoint(host, question.port))
    owner = None
    if question.process is not None:
        owner = _ownerOf(processOf(question.process), settings, scanned)
    return Described(flow, owner, "" if question.source else source, name)


def isAddress(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def fieldsOf(process: Process) -> dict[str, Any]:
    """A process for a L{Question}."""
    fields = process._asdict()
    del fields["stat"]
    return {**fields, "names": sorted(process.names)}


def processOf(fields: Mapping[str, Any]) -> Process:
    """
    The reverse of L{fieldsOf}.

    @raise ValueError, TypeError, KeyError: these are no such fields.
    """
    texts = [fields[name] for name in ("name", "path", "cgroup")] + list(fields["names"])
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(texts)
    name, path, cgroup, *names = texts
    uids = [int(uid) for uid in fields["uids"]]
    stat = ProcStat(0, 0, b"", 0, 0)
    return Process(int(fields["pid"]), stat, (*uids,), frozenset(names), name, path, cgroup)


def _ownerOf(
    process: Process, settings: Settings, scanned: Callable[[int], Excluded | None]
) -> Owner:
    """What the command line says of a process takes precedence over what a scan says."""
    matcher = matcherOf(settings)
    matcher.resolvePaths()
    user, cgroup = process.uids[1], process.cgroup
    known = scanned(process.pid) if process.pid else None
    text = "" if known is None else known.text
    if text != LOCAL_PROXY:
        text = matcher.socketText(user, cgroup) or text or matcher.processText(process)
    program = Program(process.names, process.path)
    selected = matcher.selected(process.pid, process.stat.started, program)
    if known is not None:
        # Which process had a number at the start is what only a scan knows.
        selected |= {each for each in known.selected if each.startswith("pid:")}
    selected |= matcher.selectedBySocket(user, cgroup)
    return Owner(process.pid, user, process.name, process.path, cgroup, text, selected)


def judged(
    settings: Settings,
    described: Described,
    judge: Judge,
    owners: DescribedOwner,
    reports: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """
    Judge a flow.

    @param judge: that of the settings, with these owners.
    @param reports: see L{healthOf}.
    @return: the answer, under the names of C{nanotun explain --json}.
    """
    flow, owner = described.flow, described.owner
    decision = judge.judge(flow)
    # The owner is known at once, so the decision is, too.
    assert isinstance(decision, Decision)
    upstream = nameOf(decision)
    owned = decision._replace(owner=owner or decision.owner)
    destination = Endpoint(described.name or flow.destination.host, flow.destination.port)
    return {
        "protocol": flow.protocol.name.lower(),
        "destination": str(destination),
        "source": "" if described.localSource else flow.source.host,
        "process": "" if owner is None else named(owner),
        "verdict": decision.verdict.value,
        "meaning": MEANINGS[decision.verdict].format(
            upstream="the proxy" if upstream == PROXY else upstream
        ),
        "upstream": upstream,
        "rule": decision.rule,
        "reason": decision.reason,
        "trouble": decision.trouble,
        "health": healthOf(settings, owned, flow, described.localSource.__eq__, reports),
        "notes": list(_notes(settings, described, decision, bool(owners.misses))),
    }


def _notes(settings: Settings, described: Described, decision: Decision, missed: bool) -> list[str]:
    """Sentences about what may change the answer."""
    notes = []
    if missed:
        selectors = dict.fromkeys(map(str, (*settings.excludedProcesses, *soughtBy(settings))))
        shown = list(selectors)[:NAMED_LIMIT] or ["the proxy on this machine"]
        if len(selectors) > NAMED_LIMIT:
            shown.append("...")
        notes.append(
            f"Processes matter here ({', '.join(shown)}): say whose flow it is with --process, "
            "--pid, --uid or --cgroup."
        )
    why = ""
    if described.flow.protocol is Protocol.UDP:
        why = whyNoDatagrams(settings, nameOf(decision))
    if why:
        notes.append(f"UDP does not pass there: {why}; the app hears so at once.")
    if decision.verdict is Verdict.DIRECT and not _exists(settings.tunName):
        notes.append(
            f"There is no {settings.tunName} now; once there is, nanotun also checks whether the "
            "direct route leads back into it."
        )
    if described.name:
        notes.append(
            "The name is not looked up here: the relay gives it an address of its own, and the "
            "proxy gets the name if it takes names."
        )
    return notes


def _exists(device: str) -> bool:
    try:
        if_nametoindex(device)
    except OSError:
        return False
    return True


def explainHandler(live: Live, config: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """
    The handler of C{nanotun explain}, which answers by what is in force and changes nothing.

    @param config: the configuration file's absolute path, or the empty string.
    """

    def handler(arguments: Mapping[str, Any]) -> dict[str, Any]:
        current = live.current

        def scanned(pid: int) -> Excluded | None:
            return None if current.owners is None else current.owners.table.excluded.get(pid)

        try:
            question = Question(**arguments)
            flow = described(question, current.settings, scanned)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise RunningError("This is no question about a flow.") from None
        if flow is None:
            return LOOK_UP
        owners = DescribedOwner(flow.owner)
        judge = current.judge.withOwners(owners)
        reports = current.upstreams.reports()
        answer = judged(current.settings, flow, judge, owners, reports)
        return {**answer, "by": "daemon", "pid": os.getpid(), "config": config or None}

    return handler
