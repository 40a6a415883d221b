"""Tests of L{nanotun.config.settings}."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config import settings as module
from nanotun.config.file import Given, parseFile
from nanotun.config.keys import KEYS
from nanotun.config.selectors import selectors
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.errors import ConfigError, EntryError, WrongOption
from nanotun.flow import Endpoint, Protocol
from nanotun.interfaces import DnsServer, ProxyURL
from nanotun.upstream.schemes.direct import DIRECT
from nanotun.upstream.schemes.socks5 import SOCKS5


def settingsFrom(text: str = "proxy: h", **flags: str) -> Settings:
    """The settings that a file's text and flags give."""
    given = {name: flagValue(KEYS[name], value) for name, value in flags.items()}
    return makeSettings(parseFile(text, "n.yaml", KEYS), given, "n.yaml")


class SettingsTests(SynchronousTestCase):
    """L{makeSettings}."""

    def fails(self, text: str = "proxy: h", **flags: str) -> str:
        """The error for a file's text and flags."""
        return str(self.assertRaises(ConfigError, settingsFrom, text, **flags))

    def test_table(self) -> None:
        """The table has exactly one entry for each field of the settings."""
        self.assertEqual(sorted(KEYS), sorted(f.name for f in dataclasses.fields(Settings)))

    def test_defaults(self) -> None:
        """A proxy is enough; everything else has the documented default."""
        self.assertEqual(
            settingsFrom(),
            Settings(
                proxy=(ProxyURL(SOCKS5, "h", 1080),),
                proxyPolicy="failover",
                proxyCheckInterval=30.0,
                proxyPasswordFile="",
                proxyVia="",
                upstreams=(),
                upstreamPool=0,
                tunName="nano0",
                mtu=1500,
                stackMode="gvisor",
                offload="auto",
                connectTimeout=10.0,
                udpTimeout=60.0,
                dns=(DnsServer("udp", "8.8.8.8", 53),),
                dnsVia="direct",
                dnsOverride=False,
                dnsRules=(),
                hosts=False,
                dnsRejected=None,
                dnsCache=True,
                dnsCacheSize=4096,
                dnsStale=86400.0,
                dnsClientSubnet=False,
                dnsRebindProtection=False,
                dnsMode="normal",
                dnsStateFile="/var/lib/nanotun/fakeip.json",
                fakeIpExclude=(),
                onlyProcesses=(),
                reloadFlows="keep",
                excludedProcesses=(),
                excludeChildren=False,
                excludeRefresh=15.0,
                excludedIPs=(),
                lan="direct",
                lanOnlyPorts=frozenset(
                    (
                        (Protocol.TCP, 139),
                        (Protocol.TCP, 445),
                        (Protocol.UDP, 137),
                        (Protocol.UDP, 138),
                        (Protocol.UDP, 445),
                        (Protocol.UDP, 5353),
                    )
                ),
                rules=(),
                default="proxy",
                countryFile="",
                sniff=False,
                sniffPorts=(80, 443),
                script="",
                scriptTimeout=5.0,
                scriptError="reject",
                autoDefaultRoute=False,
                ipv6="auto",
                killSwitch=False,
                resolvConf="auto",
                runDir="/run/nanotun",
                logLevel="info",
                logDir="logs",
                logFormat="text",
                logFlows=False,
                flowLog="",
                flowLogSize=256 << 20,
                flowLogDays=30,
                metrics=None,
                web="",
            ),
        )

    def test_frozen(self) -> None:
        """A setting cannot be changed afterwards."""
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, settingsFrom(), "mtu", 1400)

    def test_flagWins(self) -> None:
        """A flag wins over the file, also where the file's value is wrong."""
        text = "proxy: h\nmtu: nonsense\nstackMode: gvisor"
        settings = settingsFrom(text, mtu="1400", stackMode="simple", connectTimeout="500ms")
        self.assertEqual(
            (settings.mtu, settings.stackMode, settings.connectTimeout), (1400, "simple", 0.5)
        )

    def test_booleanFlag(self) -> None:
        """A flag takes true or false, as the file does."""
        settings = settingsFrom(dnsOverride="true", dnsCache="false")
        self.assertEqual((settings.dnsOverride, settings.dnsCache), (True, False))

    def test_missingProxy(self) -> None:
        """
        Without a proxy the error says how to set one, in the file or by a flag; a wrong value
        comes first.
        """
        message = self.fails("mtu: 1500")
        self.assertIn("n.yaml: no proxy is set; add the line 'proxy: socks5://", message)
        self.assertIn("--proxy", message)
        self.assertIn("line 1: mtu must be", self.fails("mtu: abc"))
        noFile = str(self.assertRaises(ConfigError, makeSettings, {}, {}, None))
        self.assertIn("--proxy", noFile)
        self.assertIn("--config", noFile)

    def test_accepted(self) -> None:
        """Both ends of every range, and every choice, are allowed."""
        for line, value in {
            "mtu: 1280": 1280,
            "mtu: 65535": 65535,
            "connectTimeout: 100ms": 0.1,
            "connectTimeout: 5m": 300.0,
            "udpTimeout: 1s": 1.0,
            "udpTimeout: 1h": 3600.0,
            "dnsOverride: true": True,
            "dnsCache: false": False,
            "upstreamPool: 0": 0,
            "upstreamPool: 64": 64,
            "dnsCacheSize: 1": 1,
            "dnsCacheSize: 1000000": 1_000_000,
            "dnsMode: fake-ip": "fake-ip",
            "dnsStateFile: ''": "",
            "fakeIpExclude: [Lan., 'a.example, lan']": ("lan", "a.example"),
            "offload: on": "on",
            "offload: off": "off",
            "logLevel: warn": "warn",
            "stackMode: simple": "simple",
            "tunName: a": "a",
            "tunName: abcdefghijklmno": "abcdefghijklmno",
            "logDir: ''": "",
            "sniffPorts: [80, '443, 8443', 80]": (80, 443, 8443),
            "sniffPorts: 65535": (65535,),
            "sniffPorts: []": (),
            "script: /etc/nanotun/flows.py": "/etc/nanotun/flows.py",
            "scriptTimeout: 100ms": 0.1,
            "scriptTimeout: 2m": 120.0,
            "scriptError: rules": "rules",
            "reloadFlows: judge": "judge",
            "logFlows: true": True,
            "flowLog: /var/lib/nanotun/flows.db": "/var/lib/nanotun/flows.db",
            "flowLogSize: 1MiB": 1 << 20,
            "flowLogSize: 1 TiB": 1 << 40,
            "flowLogDays: 1": 1,
            "flowLogDays: 3650": 3650,
            "metrics: ''": None,
            "metrics: 127.0.0.1:9198": Endpoint("127.0.0.1", 9198),
            "metrics: '[0::1]:1'": Endpoint("::1", 1),
            "web: ''": "",
            "web: 127.0.0.1:8198": Endpoint("127.0.0.1", 8198),
            "web: /run/nanotun/web.sock": "/run/nanotun/web.sock",
            "onlyProcesses: uid:5, cgroup:/a, unit:b.slice": selectors(
                "uid:5,cgroup:/a,unit:b.slice"
            ),
        }.items():
            name = line.partition(":")[0]
            self.assertEqual(getattr(settingsFrom(f"proxy: h\n{line}"), name), value)

    def test_rejected(self) -> None:
        """The error for a wrong value names the file, the line, the key and the valid values."""
        for line, rule in {
            "mtu: 1279": "from 1280 to 65535, not 1279",
            "mtu: 65536": "from 1280 to 65535",
            "mtu: '1500'": "a whole number",
            "mtu: 1500.0": "a whole number",
            "mtu: true": "a whole number of bytes from 1280 to 65535, not true",
            "mtu:": "not empty",
            "mtu: [1500]": "not a list",
            "connectTimeout: 10": "such as 10s",
            "connectTimeout: 99ms": "from 100ms to 5m",
            "connectTimeout: 301s": "from 100ms to 5m",
            "connectTimeout: {s: 1}": "not a mapping",
            "udpTimeout: 999ms": "from 1s to 1h, such as 1m",
            "udpTimeout: 61m": "from 1s to 1h",
            "dnsOverride: on": "true or false, not 'on' (did you mean true?)",
            "dnsCache: 0": "true or false, not 0 (did you mean false?)",
            "dnsCache: maybe": "true or false, not 'maybe'",
            "dnsCacheSize: 0": "a whole number of answers from 1 to 1000000, not 0",
            "dnsCacheSize: 1000001": "from 1 to 1000000",
            "upstreamPool: 65": "a whole number of connections from 0 to 64, not 65",
            "upstreamPool: -1": "from 0 to 64",
            "dnsMode: fakeip": "must be normal or fake-ip, not 'fakeip' (did you mean fake-ip?)",
            "dnsStateFile: 5": "a file's path, or '' for none, not 5",
            "fakeIpExclude: 5": "domain names, such as lan or intern.example.com, not 5",
            "fakeIpExclude: '*.lan'": "not '*.lan'",
            "dns: dns.google": "a server with a name is written tls://dns.google or https://",
            "offload: true": "auto, on or off, not true",
            "stackMode: gviser": "did you mean gvisor?",
            "logLevel: warning": "did you mean warn?",
            "logLevel: 3": "debug, info, warn or error",
            "tunName: abcdefghijklmnop": "1 to 15",
            "tunName: ''": "1 to 15",
            "tunName: 'a b'": "without spaces",
            "tunName: a/b": "'/'",
            "tunName: '..'": "1 to 15",
            "tunName: n%d": "'%'",
            "tunName: 5": "not 5",
            "logDir: 5": "directory",
            "sniffPorts: [80, 0]": "ports from 1 to 65535, such as 443; not '0'",
            "sniffPorts: https": "ports from 1 to 65535, such as 443; not 'https'",
            "sniffPorts: true": "ports from 1 to 65535, such as 443",
            "script: [a]": "a file's path, or '' for none, not a list",
            "scriptTimeout: 99ms": "from 100ms to 2m, such as 5s or 1m",
            "scriptTimeout: 121s": "from 100ms to 2m",
            "scriptError: rule": "reject or rules, not 'rule' (did you mean rules?)",
            "countryFile: 5": "a file's path, or '' for none, not 5",
            "reloadFlows: end": "keep or judge, not 'end'",
            "flowLog: flows.db": "a file's path that begins with /, or '' for none, not 'flows.db'",
            "flowLogSize: 1023KiB": "a size from 1MiB to 1TiB, such as 256MiB or 2GiB, not '1023",
            "flowLogSize: 1025GiB": "from 1MiB to 1TiB",
            "flowLogSize: 256": "a size",
            "flowLogSize: 256 MB": "a size",
            "flowLogDays: 0": "a whole number of days from 1 to 3650, not 0",
            "metrics: 9198": "an address and a port, such as 127.0.0.1:9198 or '[::1]:9198'",
            "metrics: localhost:9198": "not 'localhost:9198'",
            "metrics: 127.0.0.1": "not '127.0.0.1'",
            "metrics: 127.0.0.1:0": "not '127.0.0.1:0'",
            "metrics: 127.0.0.1:65536": "not '127.0.0.1:65536'",
            "metrics: '::1:9198'": "not '::1:9198'",
            "metrics: '[127.0.0.1]:9198'": "not '[127.0.0.1]:9198'",
            "web: 8198": "an address and a port, such as 127.0.0.1:8198 or '[::1]:8198', a",
            "web: localhost:8198": "not 'localhost:8198'",
            "web: run/web.sock": "a socket's path that begins with /, or '' for none, not 'run/web",
            "onlyProcesses: [uid:ann, firefox]": "users, control groups or units (uid:N, uid:USER, "
            "cgroup:/PATH or unit:NAME.service), which the kernel can tell apart, not 'firefox'; "
            "for a program set default: direct and write the rule {to: proxy, processes: "
            "[firefox]}.",
            "onlyProcesses: pid:5": "not 'pid:5'",
            "onlyProcesses: /usr/bin/x": "not '/usr/bin/x'",
        }.items():
            message = self.fails(f"proxy: h\n{line}")
            name = line.partition(":")[0]
            self.assertTrue(message.startswith(f"n.yaml, line 2: {name} must be "), message)
            self.assertIn(rule, message)

    def test_everyProcess(self) -> None:
        """The control group of all processes is none that could be told apart."""
        self.assertEqual(
            self.fails("proxy: h\nonlyProcesses: cgroup:/"),
            "n.yaml, line 2: onlyProcesses must not be cgroup:/, which every process is in; leave "
            "it out.",
        )

    def test_unquotable(self) -> None:
        """A control group that no firewall rule could name would never be in the tunnel."""
        for path in ("/a/../b", '/a"b', "/a\u200bb"):
            message = self.fails(f"proxy: h\nonlyProcesses: ['cgroup:{path}']")
            self.assertIn("whose path firewall rules cannot contain; name a group above", message)

    def test_rejectedFlag(self) -> None:
        """The error for a wrong flag names the flag and not the file."""
        for name, flag, value in (
            ("mtu", "--mtu", "big"),
            ("mtu", "--mtu", "-1"),
            ("mtu", "--mtu", ""),
            ("connectTimeout", "--connect-timeout", "10"),
            ("proxy", "--proxy", "gopher://x"),
            ("dns", "--dns", "8.8.8"),
            ("dnsOverride", "--dns-override", "yes"),
            ("dnsCacheSize", "--dns-cache-size", "0"),
            ("tunName", "--tun", "a b"),
        ):
            message = self.fails(**{name: value})
            self.assertTrue(message.startswith(f"{flag} must "), message)
            self.assertNotIn("n.yaml", message)

    def test_oneLine(self) -> None:
        """An error is one short sentence, whatever the value is."""
        message = self.fails("proxy: h", tunName="x\n\x1b[31m" + "y" * 500)
        self.assertTrue(message.isprintable())
        self.assertLess(len(message), 200)

    def test_proxies(self) -> None:
        """Several proxies are a list in the file and have commas in a flag; each counts once."""
        one = settingsFrom("proxy: 'socks5://u:a,b@h'").proxy
        self.assertEqual(one, (ProxyURL(SOCKS5, "h", 1080, "u", "a,b"),))
        urls = (ProxyURL(SOCKS5, "a", 1), ProxyURL(DIRECT))
        self.assertEqual(settingsFrom("proxy: [a:1, direct://, socks5://a:1]").proxy, urls)
        flags = settingsFrom(proxy="a:1, direct://", proxyPolicy="round-robin")
        self.assertEqual((flags.proxy, flags.proxyPolicy), (urls, "round-robin"))

    def test_wrongProxies(self) -> None:
        """An error in one of several URLs says which one it is."""
        self.assertEqual(
            self.fails("proxy:\n- a\n- b:0"),
            "n.yaml, line 1: proxy must have a port from 1 to 65535 (in URL 2 of 2; a comma in "
            "one is written %2C).",
        )
        for text in ("proxy: []", "proxy: [a, 1]", "proxy: 1", f"proxy: [{'a,' * 17}]"):
            self.assertIn("or a list of 1 to 16 of them", self.fails(text))
        self.assertIn("failover, round-robin or least-latency", self.fails(proxyPolicy="random"))
        self.assertIn("from 1s to 1h", self.fails(proxyCheckInterval="0s"))

    def test_noPassword(self) -> None:
        """No error shows a password, whichever setting the URL is in."""
        for text in (
            "proxy: gopher://a:hunter2@h",
            "proxy: socks5://a:hunter2@h:99999",
            "proxy: [socks5://a:hunter2@h, 1]",
            "proxy: [h, socks5://a:hunter2@h:99999]",
            "proxy: {socks5: a:hunter2@h}",
            "proxy: h\ntunName: socks5://a:hunter2@h",
            "proxy: h\nlogLevel: a:hunter2@h",
        ):
            self.assertNotIn("hunter2", self.fails(text))
        self.assertNotIn("hunter2", repr(settingsFrom("proxy: a:hunter2@h")))

    def test_together(self) -> None:
        """A check of settings together blames one of them, by file and line or by its flag."""

        def check(settings: Settings) -> None:
            if settings.mtu == 1400:
                raise EntryError(": there is no upstream a; did you mean b?", 1, "to", key="proxy")
            if settings.mtu == 1401:
                raise EntryError("must not be so", key="dnsCache")

        self.patch(module, "TOGETHER", (check,))
        self.assertEqual(
            self.fails("mtu: 1400\nproxy:\n- h\n- g"),
            "n.yaml, line 4: proxy, entry 2, to: there is no upstream a; did you mean b?",
        )
        self.assertEqual(
            self.fails("mtu: 1401\nproxy: h"), "The default of dnsCache must not be so."
        )
        error = self.assertRaises(WrongOption, settingsFrom, "mtu: 1400", proxy="h")
        self.assertEqual(
            str(error), "--proxy, entry 2, to: there is no upstream a; did you mean b?"
        )
        self.assertEqual(settingsFrom("mtu: 1402\nproxy: h").mtu, 1402)

    def test_typeOfGiven(self) -> None:
        """Digits are a number only in a flag whose setting is a number."""
        self.assertEqual(flagValue(KEYS["mtu"], "1500"), Given(1500, "--mtu", typed=True))
        self.assertEqual(flagValue(KEYS["tunName"], "15"), Given("15", "--tun", typed=True))
