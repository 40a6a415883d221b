"""
Reads the files that C{rules} and C{dnsRules} name: lists of names and of networks, and the file
of countries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Generic, NamedTuple, TypeVar

from nanotun.config.domains import Pattern, PatternKind
from nanotun.config.flowrules import FlowRule, ListFile
from nanotun.config.options import openSafe
from nanotun.config.settings import Settings
from nanotun.daemon.countries import Countries
from nanotun.errors import ConfigError
from nanotun.linux.stamp import Stamp, stampAt, stampOf
from nanotun.policy.listfile import NameLines, NetworkLines
from nanotun.policy.lists import NO_LISTS, Lists
from nanotun.policy.namelist import NameList
from nanotun.policy.networktable import NetworkTable

#: Bytes: a million names, with room for comments.
LIST_BYTES = 64 << 20

#: Bytes that are read at once.
PIECE = 1 << 16

T = TypeVar("T")


@dataclass(frozen=True)
class Stamped(Generic[T]):
    """
    What was read from a file.

    @ivar stamp: the file's, before it was read.
    @ivar notice: a sentence about the file; empty for none.
    """

    stamp: Stamp
    value: T
    notice: str = ""


class ReadLists(NamedTuple):
    """
    What C{rules} and C{dnsRules} take from files, and the versions of the files that it was read
    from.

    @ivar lists: for the rules.
    @ivar names: what was read, by paths, as are the two others.
    """

    lists: Lists = NO_LISTS
    names: Mapping[str, Stamped[NameList]] = {}
    networks: Mapping[str, Stamped[NetworkTable]] = {}
    countries: Mapping[str, Stamped[Countries]] = {}

    def changed(self) -> frozenset[str]:
        """The paths of the files that are others by now, or cannot be looked at."""
        return frozenset(
            path
            for kind in (self.names, self.networks, self.countries)
            for path, one in kind.items()
            if stampAt(path) != one.stamp
        )

    def described(self) -> list[str]:
        """How much is in each list, a line each."""
        names = {path: len(one.value) for path, one in self.names.items()}
        ranges = {path: len(one.value) for path, one in self.networks.items()}
        return [
            *(f"{path}: {_many(count, 'name')}" for path, count in names.items()),
            *(f"{path}: {_many(count, 'range')} of addresses" for path, count in ranges.items()),
        ]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


#: What is known before any file was read.
NOTHING_READ = ReadLists()


class _Use(NamedTuple):
    """
    A place where a list is named.

    @ivar key: the setting.
    @ivar networks: whether it is a list of networks, and not of names.
    """

    key: str
    path: str
    where: str
    networks: bool = False


def _usesIn(settings: Settings) -> Iterator[_Use]:
    """Wherever settings name a list, in their order."""
    for rule in settings.rules:
        for path in _namesIn(*rule.wants.domains, *rule.never.domains):
            yield _Use("rules", path, rule.where)
        for path in _networksIn(rule):
            yield _Use("rules", path, rule.where, networks=True)
    for entry in settings.dnsRules:
        for path in _namesIn(*entry.domains):
            yield _Use("dnsRules", path, entry.where)


def pathsIn(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """
    The lists that C{rules} and C{dnsRules} name.

    @return: the paths of lists of names, and of lists of networks, each with where it was
        written first.
    """
    names: dict[str, str] = {}
    networks: dict[str, str] = {}
    for use in _usesIn(settings):
        (networks if use.networks else names).setdefault(use.path, use.where)
    return names, networks


def keysNaming(settings: Settings, paths: Collection[str]) -> tuple[str, ...]:
    """
    The settings that say something else once some files have changed, though they read the same.

    @param paths: of those files.
    @return: C{dnsRules}, C{rules} or both; the file of countries is of use to C{rules} only.
    """
    found = {use.key for use in _usesIn(settings) if use.path in paths}
    if settings.countryFile in paths:
        found.add("rules")
    return tuple(sorted(found))


def _namesIn(*domains: Pattern) -> Iterator[str]:
    for each in domains:
        if each.kind is PatternKind.FILE:
            yield each.value


def _networksIn(rule: FlowRule) -> Iterator[str]:
    wants, never = rule.wants, rule.never
    for each in (*wants.networks, *wants.sources, *never.networks, *never.sources):
        if isinstance(each, ListFile):
            yield each.path


def readLists(settings: Settings, uid: int, before: ReadLists = NOTHING_READ) -> ReadLists:
    """
    Read the files that C{rules} and C{dnsRules} of some settings name.

    @param uid: the effective user id of this process.
    @param before: what was read before; a file that has not changed since is not read again.
    @raise ConfigError: with one sentence: a file is missing, unreadable, unsafe or no list.
    """
    namePaths, networkPaths = pathsIn(settings)
    names = {
        path: _read(path, "list", f"check the path in {where}", uid, before.names, _readNames)
        for path, where in namePaths.items()
    }
    networks = {
        path: _read(path, "list", f"check the path in {where}", uid, before.networks, _readNetworks)
        for path, where in networkPaths.items()
    }
    countries: dict[str, Stamped[Countries]] = {}
    path = settings.countryFile
    if path:
        advice = "check the path after countryFile"
        countries[path] = _read(path, "country", advice, uid, before.countries, _readCountries)
    notices = [one.notice for one in names.values()] + [one.notice for one in networks.values()]
    lists = Lists(
        {path: one.value for path, one in names.items()},
        {path: one.value for path, one in networks.items()},
        countries[path].value.countryOf if path else NO_LISTS.countryOf,
        tuple(filter(None, notices)),
    )
    return ReadLists(lists, names, networks, countries)


def _read(
    path: str,
    kind: str,
    advice: str,
    uid: int,
    before: Mapping[str, Stamped[T]],
    read: Callable[[str, BinaryIO], tuple[T, str]],
) -> Stamped[T]:
    """
    Read one file, unless it is what it was.

    @param kind: what kind of file it is, for errors.
    @param advice: what to do if it cannot be read, for errors.
    @param read: gets its path, and the file open at its beginning; returns what is in it, and
        a notice.
    """
    with openSafe(path, uid, kind, advice) as file:
        stamp = stampOf(os.fstat(file.fileno()))
        known = before.get(path)
        if known is not None and known.stamp == stamp:
            return known
        return Stamped(stamp, *read(path, file))


def _readNames(path: str, file: BinaryIO) -> tuple[NameList, str]:
    lines = NameLines(path, min(os.fstat(file.fileno()).st_size, LIST_BYTES))
    for piece in _pieces(path, file):
        lines.feed(piece)
    return lines.end(), lines.notice


def _readNetworks(path: str, file: BinaryIO) -> tuple[NetworkTable, str]:
    lines = NetworkLines(path)
    for piece in _pieces(path, file):
        lines.feed(piece)
    return lines.end(), lines.notice


def _readCountries(path: str, file: BinaryIO) -> tuple[Countries, str]:
    return Countries(path, file), ""


def _pieces(path: str, file: BinaryIO) -> Iterator[bytes]:
    size = 0
    while piece := file.read(PIECE):
        size += len(piece)
        if size > LIST_BYTES:
            raise ConfigError(
                f"The list {path} is longer than 64 MiB, which is room for more than a million "
                "names; give a shorter one."
            )
        yield piece
