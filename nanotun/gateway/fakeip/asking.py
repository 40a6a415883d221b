"""
Which names the servers may be asked about, to see whether they exist, and which servers:
under C{dnsMode: fake-ip} a name leaves the machine through the proxy only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nanotun.policy.dnsnames import NamePolicy

#: What tells no proxy a flow's name: its host is looked up by the same servers, or not at all.
UNPROXIED = frozenset(("direct", "reject", "drop"))


def mayAsk(names: NamePolicy, ways: Collection[str]) -> Callable[[str], bool]:
    """
    Make a test of names, in lower case and without the final dot.

    A name of one label has no meaning for a server, and one that flows take to another proxy
    may exist there only.

    @param names: says where flows to a name may leave, and which names are left alone.
    @param ways: the upstreams that the servers are asked through, and those that are no proxy.
    """
    allowed = UNPROXIED.union(ways)

    def test(name: str) -> bool:
        return "." in name and names.waysOf(name) <= allowed and not names.of(name).fake

    return test
