"""
Reads what the functions of a script return.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from nanotun.config import dnsservers
from nanotun.config.upstreamentries import nearUpstream
from nanotun.errors import ConfigError
from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.script import Through
from nanotun.scripting.failures import WrongAnswer
from nanotun.upstream.url import FIELDS

#: Addresses of one answer; more do not fit into a datagram.
ADDRESS_LIMIT = 16

#: Characters that are shown of what there is not.
SHOWN = 60


def readAnswer(result: object, names: Mapping[str, Collection[str]], reason: str) -> ScriptAnswer:
    """
    What C{flow} returned.

    @param names: of the upstreams, with the built-in ones; each with the fields of the template
        in its user name.
    @param reason: for an answer that names one.
    @raise WrongAnswer: there is no such answer.
    """
    if result is None:
        return ScriptAnswer()
    name: object = result
    values: Mapping[str, object] = {}
    if isinstance(result, Through):
        name, values = result.upstream, result.values
    if not isinstance(name, str) or name not in names:
        near = nearUpstream(names, name) if isinstance(name, str) else ""
        hint = f"did you mean {near}?" if near else f"there are None, {', '.join(names)}"
        raise WrongAnswer(f"{ascii(name)[:SHOWN]}; {hint}")
    for field in names[name]:
        if field not in FIELDS and field not in values:
            raise WrongAnswer(
                f"{name!r} without {{{field}}} of its user name; write Through({name!r}, "
                f"{field}=...)"
            )
    for field, value in values.items():
        if field not in names[name]:
            raise WrongAnswer(f"{field}=..., but the user name of {name} has no {{{field}}}")
        if not isinstance(value, (str, int)):
            raise WrongAnswer(f"{field}={ascii(value)[:SHOWN]}, which is no text")
    return ScriptAnswer(name, reason, tuple((each, str(values[each])) for each in values))


def readReply(result: object) -> ScriptReply:
    """
    What C{query} returned.

    @raise WrongAnswer: there is no such answer.
    """
    if result is None:
        return ScriptReply()
    if result == "refuse":
        return ScriptReply(refused=True)
    if isinstance(result, str) and "://" in result:
        return ScriptReply(server=_server(result))
    texts = [result] if isinstance(result, str) else result
    if isinstance(texts, Sequence) and len(texts) <= ADDRESS_LIMIT:
        try:
            return ScriptReply(addresses=tuple(map(_canonical, texts)))
        except (OSError, ValueError, TypeError):
            pass
    raise WrongAnswer(
        f"{ascii(result)[:SHOWN]}; it may answer None, 'refuse', addresses, or a server such as "
        "'udp://192.0.2.53'"
    )


def _canonical(text: str) -> str:
    family = AF_INET6 if ":" in text else AF_INET
    return inet_ntop(family, inet_pton(family, text))


def _server(text: str) -> str:
    try:
        server = dnsservers.server(text)
        if server.scheme == "udp":
            return f"udp://{server}"
    except ConfigError:
        pass
    raise WrongAnswer(f"{ascii(text)[:SHOWN]}; a server is written 'udp://192.0.2.53'")
