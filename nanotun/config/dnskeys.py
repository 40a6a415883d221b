"""
The settings of names; a part of L{nanotun.config.keys}.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanotun.config import dnsservers, values
from nanotun.config.dnsrules import DnsAnswer, DnsRule, dnsRules, rejectedAnswer
from nanotun.config.entry import InRun, setting
from nanotun.interfaces import DnsServer
from nanotun.upstream.scheme import sendsNamesWith
from nanotun.upstream.schemes.table import BUILT_IN

DNS_CACHE_LIMIT = 1_000_000  #: Answers; more than any number of apps asks for.

#: nanotun's own schemes of proxies that are sent names with fake-ip.
_TAKING = (scheme.name for scheme in BUILT_IN if sendsNamesWith(scheme, True))

#: Kept as they are in the sample file, because they begin with spaces.
_SAMPLE = """
  dnsRules:
    - {domains: [corp.example, 10.in-addr.arpa], servers: [10.0.0.53]}
    - {domains: "file:/etc/nanotun/ads.txt", answer: 0.0.0.0}
"""


@dataclass(frozen=True, kw_only=True)
class DNSSettings:
    """
    The relay on the gateway.

    @ivar dns: the servers to ask, at least one, in this order.
    @ivar dnsVia: C{"direct"} or the name of an upstream, for servers without one of their own.
    @ivar dnsOverride: whether queries to any server are answered by these.
    @ivar dnsRules: in their order; the first that has a name counts.
    @ivar hosts: whether the relay answers by /etc/hosts.
    @ivar dnsRejected: the answer for names that a rule refuses flows to; L{None} where those
        are looked up.
    @ivar dnsCacheSize: the number of answers.
    @ivar dnsStale: seconds for which an answer is given after its time; 0 for never.
    @ivar dnsClientSubnet: whether EDNS client subnet (RFC 7871) is left in queries.
    @ivar dnsRebindProtection: whether answers with addresses of local networks are dropped.
    @ivar dnsStateFile: a path, or the empty string for no file.
    @ivar fakeIpExclude: names in lower case; each includes all names below it.
    """

    dns: tuple[DnsServer, ...] = setting(
        dnsservers.checked,
        "8.8.8.8",
        "SERVER",
        "DNS server for the gateway's relay: an address, `tls://`, `https://` or `system`; several "
        "with commas",
        doc="""
The DNS servers that the relay on the gateway, 198.18.0.1 and fdfe:dcba:9876::1, asks, in this
order, such as [9.9.9.9, 8.8.8.8:53, '[2001:4860:4860::8888]:53'].
  8.8.8.8                         is asked over UDP, and where needed TCP
  tcp://8.8.8.8                   over TCP
  tls://1.1.1.1#one.one.one.one   over TLS; the certificate must be for the name
                                  behind the #, or else for the host
  https://dns.example/dns-query   over HTTPS
  system                          stands for the servers that this machine uses
                                  itself, even when they change
Written out, a server may have more:
  dns:
    - {server: 'tls://dns.example', address: 192.0.2.53, via: proxy}
    - {server: 'tls://10.0.0.53', ca: /etc/ssl/dns.pem}
A server that is given by name needs an address, or another server that can be asked for its name.
via is how it is asked, in place of dnsVia; ca is a file with the certificates to trust, in place of
the system's.
""",
        live=True,
        routed=True,
        repeats=True,
        run=InRun(
            metavar="SERVER", help="the DNS server that is asked, through the proxy [8.8.8.8]"
        ),
    )
    dnsVia: str = setting(
        dnsservers.via,
        "direct",
        "WAY",
        "how the relay's queries travel: `direct` (past the proxy), `proxy`, or by the upstream of "
        "that name",
        doc="How the relay's queries travel to servers that have no via of their own: direct is "
        "past the proxy, where plain servers are asked in the clear; proxy, or the name of an "
        "upstream, is through it, by UDP if it carries UDP and the server is asked that way, else "
        "by TCP, and never past it.  Only the proxies' own names are always asked past them, "
        "because nothing can go through a proxy before its address is known.",
        live=True,
        run=InRun(
            fixed="proxy",
            guarded=True,
            metavar="direct",
            help="ask it past the proxy, in the clear",
        ),
    )
    dnsOverride: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "the relay answers DNS queries to any server, if they would go to the proxy",
        doc="Whether the relay answers DNS queries to any other server too, if they would go "
        "to the proxy: true or false.",
        live=True,
    )
    dnsRules: tuple[DnsRule, ...] = setting(
        dnsRules,
        "",
        "RULE",
        "who answers for which names: servers, or the relay itself; the first rule that has the "
        "name counts; `--dns-rule` takes one as YAML",
        flag="dns-rule",
        doc="Who answers for a name.  The first rule that has it among its domains, which are "
        "written as in rules, counts: servers are asked in place of those of dns; an answer asks "
        "nobody, and is refuse, nodata, or addresses such as 0.0.0.0.  With dnsMode: fake-ip, "
        "names with servers get their real addresses, and answer: fake has names get addresses "
        f"without being asked for.{_SAMPLE}",
        live=True,
        rights=True,
        repeats=True,
        structured=True,
        run=InRun(
            metavar="RULE",
            help="who answers for which names, such as "
            "'{domains: [corp.example], servers: [10.0.0.53]}'",
        ),
    )
    hosts: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "whether the relay answers by /etc/hosts",
        doc="Whether the relay answers for the names in /etc/hosts before anybody else does, and "
        "follows the file's changes: true or false.  Programs that use this machine's resolver "
        "read that file anyway; containers and programs with a resolver of their own do not.",
        live=True,
    )
    dnsRejected: DnsAnswer | None = setting(  # noqa: RUF009 (immutable)
        rejectedAnswer,
        "pass",
        "ANSWER",
        "what is answered to queries for domains that a rule rejects or drops: `pass` (what "
        "the servers say), `refuse`, `nodata`, or addresses with commas",
        doc="What is answered to queries for domains that one of the rules rejects or drops, "
        "whoever asks: pass has them looked up, so that only the connections are refused; refuse, "
        "nodata, and addresses such as 0.0.0.0, answer at once.  This holds where the name alone "
        "decides, which it does not if the rule has other conditions.",
        live=True,
    )
    dnsCache: bool = setting(
        values.boolean,
        "true",
        "BOOL",
        "whether the relay remembers answers",
        doc="Whether the relay remembers answers for as long as they are valid: true or false.",
        live=True,
    )
    dnsCacheSize: int = setting(
        values.number(1, DNS_CACHE_LIMIT, "answers"),
        4096,
        "ANSWERS",
        f"how many answers the relay remembers, 1 to {DNS_CACHE_LIMIT}",
        live=True,
    )
    dnsStale: float = setting(
        # RFC 8767, section 4: a week is the most that anybody should keep.
        values.duration("0s", "168h", "1h or 24h"),
        "24h",
        "DURATION",
        "for how long after its time an answer is given if no server responds, 0s to 168h",
        doc="For how long an answer is still given after its time to live, if no server responds "
        "(RFC 8767): 0s, which is not at all, to 168h.",
        live=True,
    )
    dnsClientSubnet: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "whether servers are told the client's network if a query names it (EDNS client subnet)",
        doc="Whether servers are told the client's network, if a query names it (EDNS client "
        "subnet): true or false.",
        live=True,
    )
    dnsRebindProtection: bool = setting(
        values.boolean,
        "false",
        "BOOL",
        "whether answers are dropped that give a name an address of a local network",
        flag="rebind-protection",
        doc="Whether answers are dropped that give a name a private, loopback or otherwise "
        "reserved address, by which a web page could reach into your network: true or false.  "
        "Names without a dot, names below localhost, local, internal and home.arpa, and names "
        "with servers in dnsRules, other than by a rule for all names, are left alone; so is every "
        "name if all servers of dns are in your own network and asked past the proxy.",
        live=True,
    )
    dnsMode: str = setting(
        values.Choice("normal", "fake-ip"),
        "normal",
        "MODE",
        "DNS answers of the relay: `normal`, or `fake-ip` (addresses that stand for names)",
        doc="What the relay answers: normal passes the servers' answers on.  fake-ip answers "
        "every name with an address of its own, of 198.19.0.0/16 and fdfe:dcba:9876:1::/64, "
        "which has to be routed to the device; connections to it are made by name, through "
        f"a proxy that takes names ({', '.join(_TAKING)}), and nothing is looked up on this "
        "machine.  Servers of dns that are reached through a proxy (dnsVia, or via of their own) "
        "are asked whether a name exists, so that search domains work.  For socks4, for "
        "direct:// and for UDP through a proxy that takes no names there, the name is looked up "
        "first, as dnsVia says.",
        run=InRun(
            metavar="MODE",
            help="fake-ip: the proxy looks names up [if all take them]; normal: --dns does",
        ),
    )
    dnsStateFile: str = setting(
        values.path("a file's path, or '' for none"),
        "/var/lib/nanotun/fakeip.json",
        "FILE",
        "where fake-ip keeps its names across restarts; `''` for nowhere",
        run=InRun(refused=True, fixed=""),
    )
    fakeIpExclude: tuple[str, ...] = setting(
        values.domains,
        "",
        "DOMAIN",
        "names that fake-ip leaves alone, with all below; several with commas",
        doc="Names that fake-ip leaves to the servers, with all below, such as "
        "[lan, corp.example].  localhost, .local, .arpa and names with servers in dnsRules are "
        "left to them anyway, and so are names without a dot, except in 'nanotun run'.",
        repeats=True,
    )
