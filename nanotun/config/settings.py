"""
The configuration: values from file and flags in, one frozen L{Settings} out.

Every setting stands once, in L{nanotun.config.keys}.  Nothing here opens a file or looks
at the machine; L{nanotun.config.options} does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nanotun.config.file import Given
from nanotun.config.keys import KEYS, Key
from nanotun.config.networks import Network
from nanotun.config.selectors import Selector
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Protocol
from nanotun.upstream.url import ProxyURL


@dataclass(frozen=True, slots=True)
class Settings:
    """
    The whole configuration; the names are those of the file.

    @ivar proxy: at least one, in the order to prefer them.
    @ivar proxyCheckInterval: seconds between two checks of an idle proxy.
    @ivar proxyPasswordFile: a path, or the empty string for none.
    @ivar upstreamPool: connections to the proxy that wait for a destination.
    @ivar mtu: bytes.
    @ivar connectTimeout: seconds for connect, handshake and reply together.
    @ivar udpTimeout: seconds after which an idle association ends.
    @ivar dns: the servers to ask, at least one, in this order.
    @ivar dnsOverride: whether queries to any server are answered by these.
    @ivar dnsCacheSize: answers.
    @ivar dnsStateFile: a path, or the empty string for no file.
    @ivar fakeIpExclude: names, lower case; each stands for all below it too.
    @ivar excludedProcesses: who goes past the proxy.
    @ivar excludeRefresh: seconds between two scans of the processes.
    @ivar excludedIPs: where flows to go past the proxy.
    @ivar lanOnlyPorts: what never reaches the proxy, by protocol and port.
    @ivar runDir: a directory for what lives as long as the daemon, or a crash.
    @ivar logDir: a path, or the empty string for no log files.
    """

    proxy: tuple[ProxyURL, ...]
    proxyPasswordFile: str
    proxyPolicy: str
    proxyCheckInterval: float
    upstreamPool: int
    tunName: str
    mtu: int
    stackMode: str
    offload: str
    connectTimeout: float
    udpTimeout: float
    dns: tuple[Endpoint, ...]
    dnsOverride: bool
    dnsCache: bool
    dnsCacheSize: int
    dnsMode: str
    dnsStateFile: str
    fakeIpExclude: tuple[str, ...]
    excludedProcesses: tuple[Selector, ...]
    excludeChildren: bool
    excludeRefresh: float
    excludedIPs: tuple[Network, ...]
    lan: str
    lanOnlyPorts: frozenset[tuple[Protocol, int]]
    autoDefaultRoute: bool
    ipv6: str
    killSwitch: bool
    runDir: str
    logLevel: str
    logDir: str
    logFormat: str


def flagValue(key: Key, text: str) -> Given:
    """
    Make a flag's text comparable to a value from the file, where numbers are numbers
    and proxies are a list.
    """
    if key.name == "proxy":
        return Given([each.strip() for each in text.split(",")], f"--{key.flag}")
    number = isinstance(key.default, int) and re.fullmatch(r"[0-9]{1,9}", text)
    return Given(int(text) if number else text, f"--{key.flag}")


def makeSettings(
    fileValues: Mapping[str, Given], flagValues: Mapping[str, Given], fileName: str | None
) -> Settings:
    """
    Merge and check: a flag wins over the file, the file over the default.

    @param fileValues: by key, from L{nanotun.config.file.parseFile}.
    @param flagValues: by key, from L{flagValue}.
    @param fileName: the file's name, for errors; L{None} without a file.
    @raise ConfigError: with one sentence for the user.
    """
    merged = {**fileValues, **flagValues}
    values: dict[str, Any] = {}
    for key in KEYS.values():
        given = merged.get(key.name)
        if given is None and key.default is None:
            raise ConfigError(_missing(key, fileName))
        if given is None:
            given = Given(key.default, f"The default of {key.name}")
        try:
            values[key.name] = key.check(given.value)
        except ConfigError as error:
            raise ConfigError(f"{given.where} {error}.") from None
    return Settings(**values)


def _missing(key: Key, fileName: str | None) -> str:
    line = f"'{key.name}: {key.metavar}'"
    flag = f"--{key.flag} {key.metavar}"
    if fileName is None:
        return f"No {key.name} is set: give {flag}, or --config FILE with the line {line}."
    return f"{fileName}: no {key.name} is set; add the line {line} or give {flag}."
