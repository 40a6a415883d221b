"""
A flow that somebody describes: what nanotun would know of it if it were there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun import script
from nanotun.addresses import FAKE4, KERNEL4, KERNEL6
from nanotun.config.dnsrules import DnsAnswer
from nanotun.config.domains import comparable
from nanotun.config.settings import Settings
from nanotun.errors import NanotunError
from nanotun.flow import Endpoint, Flow, Known, Owner, Protocol, ScriptAnswer, ScriptReply
from nanotun.gateway.dns.hostsfile import HostsFile
from nanotun.gateway.dns.message import AAAA, A
from nanotun.gateway.gateway import givesFake, realNames
from nanotun.interfaces import IOwners, IScript
from nanotun.owners.make import matcherOf
from nanotun.owners.values import Excluded, Process, ProcStat, Program
from nanotun.policy.dnsnames import NOTHING, NamePolicy, NameVerdict
from nanotun.policy.rules import LOCAL_PROXY

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
    @ivar known: the name that is known of its destination, as it is compared with those of
        rules; empty if none was described.
    @ivar answered: what the relay answers by itself about the name, a sentence; empty for a name
        that has a fake address.
    """

    flow: Flow
    owner: Owner | None
    localSource: str
    name: str = ""
    known: str = ""
    answered: str = ""


class AnsweredHere(NanotunError):
    """No flow to a name begins, because the relay gives it no address that one could go to."""


class Question(NamedTuple):
    """
    A flow in words that fit into JSON.

    @ivar protocol: C{"tcp"} or C{"udp"}.
    @ivar host: the destination, an address or a host name.
    @ivar source: the other machine's address; empty for a flow of this one.
    @ivar process: the fields of a L{Process}, except C{stat}; L{None} if it was not
        described.
    @ivar name: the name that is known of a destination whose address is given; empty for none.
    """

    protocol: str
    host: str
    port: int
    source: str
    process: dict[str, Any] | None
    name: str = ""


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


class DescribedNames:
    """
    Reports the described name as that of every destination.

    @ivar names: what was reported last.
    @param described: the flow.
    @param real: what is known without a description.
    @param alone: whether only the described name counts, because the flow says it itself.
    """

    def __init__(self, described: Described, real: Callable[[Flow], Known], alone: bool) -> None:
        self.names: tuple[str, ...] = ()
        self._known = described.known
        # A fake address that stands in for any may be one that the relay gave another name.
        self._alone = bool(described.name or (alone and described.known))
        self._real = real

    def namesOf(self, flow: Flow) -> Known:
        """See L{nanotun.interfaces.INames.namesOf}."""
        names, whole = Known() if self._alone else self._real(flow)
        if self._known:
            names = (self._known, *(name for name in names if name != self._known))
        self.names = names
        return Known(names, whole)


@implementer(IScript)
class HeardScript:
    """
    The user's script, whose answer is noted.

    @ivar needsProcess: see L{IScript}, as are C{decides}, C{followsFlows}, C{answersQueries}.
    @ivar answer: the last one about a flow; L{None} if it was not asked.
    """

    def __init__(self, script: IScript) -> None:
        self.needsProcess = bool(script.needsProcess)
        self.decides = bool(script.decides)
        self.followsFlows = bool(script.followsFlows)
        self.answersQueries = bool(script.answersQueries)
        self.answer: ScriptAnswer | None = None
        self._script = script

    def decide(self, flow: script.Flow) -> ScriptAnswer | Deferred[ScriptAnswer]:
        """See L{IScript.decide}."""
        answer = self._script.decide(flow)
        return (
            answer.addCallback(self._hear) if isinstance(answer, Deferred) else self._hear(answer)
        )

    def _hear(self, answer: ScriptAnswer) -> ScriptAnswer:
        self.answer = answer
        return answer

    def ended(self, flow: script.Flow, end: script.End) -> None:
        """See L{IScript.ended}."""
        self._script.ended(flow, end)

    def query(self, query: script.Query) -> ScriptReply | Deferred[ScriptReply]:
        """See L{IScript.query}."""
        return self._script.query(query)


def described(
    question: Question,
    settings: Settings,
    names: NamePolicy,
    scanned: Callable[[int], Excluded | None],
) -> Described | None:
    """
    The flow that a question is about.

    @param names: what the settings say about names.
    @param scanned: what a scan of all processes says of the one with a pid; L{None} if it is
        neither excluded nor named by a rule.
    @return: L{None} if the host is a name that has to be looked up first.
    @raise AnsweredHere: the hosts file or C{dnsRules} keep programs from an address.
    @raise ValueError, TypeError, KeyError: this is no question.
    """
    host, name, answered = question.host, "", ""
    if not isAddress(host):
        name = host
        host, answered = _answered(settings, names, host, question.source)
        if not host:
            if not givesFake(settings, name, names):
                return None
            host = SOME_FAKE
    known = comparable(question.name or name)
    source = question.source or str(ip_interface(KERNEL6 if ":" in host else KERNEL4).ip)
    if not isAddress(source) or not 1 <= question.port <= 65535:
        raise ValueError(question)
    protocol = Protocol[question.protocol.upper()]
    flow = Flow(0, protocol, Endpoint(source, SOURCE_PORT), Endpoint(host, question.port))
    owner = None
    if question.process is not None:
        owner = _ownerOf(processOf(question.process), settings, scanned)
    local = "" if question.source else source
    return Described(flow, owner, local, name, known, answered)


def _answered(settings: Settings, names: NamePolicy, name: str, source: str) -> tuple[str, str]:
    """
    The address that the relay gives a name by itself, or one that stands in for it where a rule
    rejects the name; and a sentence about that.  Both are empty if it leaves the name to others.

    @param source: the other machine's address; empty for this one.
    @raise AnsweredHere: see L{described}.
    """
    known = comparable(name)
    found = _hosted(known) if settings.hosts else None
    if found is None:
        # No rule keeps a proxy's address from those who have to dial it.
        found = NOTHING if known in realNames(settings) else names.of(known)
    if found.answer is None:
        return "", ""
    if found.answer.refused:
        what = "refused"
    else:
        what = ", ".join(found.answer.addresses) or "no data"
    sentence = f"The relay answers queries for {name} itself: {what} ({found.rule})"
    if found.rejected:
        # Its address does not matter.
        return SOME_FAKE, f"{sentence}."
    for host in found.answer.addresses:
        isOther = bool(source) and (":" in source) != (":" in host)
        if not isOther and not ip_address(host).is_unspecified:
            return host, f"{sentence}."
    raise AnsweredHere(f"{sentence}, so no flow to it begins; give an address to leave DNS out.")


def _hosted(name: str) -> NameVerdict | None:
    """
    What the relay does with queries for a name because of the hosts file; L{None} if the name is
    not there.
    """
    table = HostsFile(lambda sentence: None).table(0.0)
    found = [table.of(name, kind) for kind in (A, AAAA)]
    if found == [None, None]:
        return None
    addresses = tuple(str(ip_address(packed)) for each in found for packed in each or ())
    return NameVerdict(DnsAnswer(addresses=addresses), rule=table.ruleOf(name))


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
