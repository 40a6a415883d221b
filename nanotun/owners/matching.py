"""
Which selectors a process or a socket matches: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from nanotun.config.selectors import Selector, SelectorKind
from nanotun.errors import ConfigError
from nanotun.linux.users import nearUser
from nanotun.owners.values import Process, Program

_Key = TypeVar("_Key", int, str)

_NONE: Mapping[Selector, str] = MappingProxyType({})

_NOTHING: frozenset[str] = frozenset()


class Matcher:
    """
    All selectors of C{excludedProcesses}, and those of the user's rules, indexed.

    @ivar bySockets: whether a socket's user or cgroup can match.
    @ivar byCgroups: whether any selector is about cgroups.
    @ivar byFamilies: whether the children of an excluded user's or cgroup's processes match,
        too.
    @ivar byProcesses: whether processes have to be examined.
    @ivar seeks: whether a rule is about processes.
    @ivar seeksPrograms: whether a rule is about what a socket alone does not tell.
    @ivar seeksCgroups: whether a rule is about cgroups.
    @param selectors: those of C{excludedProcesses}.
    @param children: whether the children of an excluded process are excluded, too.
    @param uidOf: see L{nanotun.linux.users.uidOf}.
    @param realPath: resolves the symbolic links in a path.
    @param sought: those of the user's rules, and where each is written, as the beginning of a
        sentence.
    @raise ConfigError: a user is unknown.
    """

    def __init__(
        self,
        selectors: Iterable[Selector],
        children: bool,
        uidOf: Callable[[str], int],
        realPath: Callable[[str], str],
        sought: Mapping[Selector, str] = _NONE,
    ) -> None:
        def excludedUid(value: str) -> int:
            return _uid(value, uidOf, f"excludedProcesses names uid:{value}, but ")

        def soughtUid(value: str) -> int:
            place = sought[Selector(SelectorKind.UID, value)]
            return _uid(value, uidOf, f"{place}: ")

        self._excluded = excluded = _Index(selectors, excludedUid, realPath)
        self._sought = rules = _Index(sought, soughtUid, realPath)
        self.byFamilies = children and excluded.bySockets
        self.byCgroups = excluded.byCgroups or rules.byCgroups
        self.bySockets = excluded.bySockets or rules.bySockets
        self.seeks = bool(sought)
        self.seeksPrograms = rules.byPrograms
        self.seeksCgroups = rules.byCgroups
        self.byProcesses = excluded.byPrograms or rules.byPrograms or self.byFamilies

    def bindPids(self, startOf: Callable[[int], int | None]) -> list[str]:
        """
        Make C{pid:N} mean the process that has this pid now, and no later one with the
        same pid.

        @param startOf: when a process was started; L{None} if there is no such process.
        @return: a sentence for each selector that matches no process.
        """
        return [
            f"{setting}: there is no process {text}."
            for setting, index in (("excludedProcesses", self._excluded), ("rules", self._sought))
            for text in index.bindPids(startOf)
        ]

    def resolvePaths(self) -> None:
        """Resolve symbolic links again: updates change them.  Thread-safe."""
        self._excluded.resolvePaths()
        self._sought.resolvePaths()

    def socketText(self, uid: int, cgroup: str) -> str:
        """
        The selector that excludes all sockets of a user or of a cgroup; empty if none does.

        @param cgroup: a path; empty if it is unknown.
        """
        return next(self._excluded.ofSocket(uid, cgroup), "")

    def programText(self, pid: int, started: int, program: Program) -> str:
        """The selector that excludes a process by its pid or program; empty if none does."""
        return next(self._excluded.ofProgram(pid, started, program), "")

    def processText(self, process: Process) -> str:
        """The selector that excludes a process; empty if none does."""
        program = Program(process.names, process.path)
        found = self.programText(process.pid, process.stat.started, program)
        if found:
            return found
        # Its own sockets match by themselves; this is for its children.
        if self.byFamilies:
            return self.socketText(process.uids[1], process.cgroup)
        return ""

    def selectedBySocket(self, uid: int, cgroup: str) -> frozenset[str]:
        """
        The rules' selectors that match all sockets of a user or of a cgroup.

        @param cgroup: as for L{socketText}.
        """
        return frozenset(self._sought.ofSocket(uid, cgroup)) if self.seeks else _NOTHING

    def selected(self, pid: int, started: int, program: Program) -> frozenset[str]:
        """The rules' selectors that match a process by its pid or program."""
        if not self.seeksPrograms:
            return _NOTHING
        return frozenset(self._sought.ofProgram(pid, started, program))


class _Index:
    """
    Some selectors, by what they are about.  What matches is told in a fixed order.

    @ivar bySockets: whether any is about users or cgroups.
    @ivar byCgroups: whether any is about cgroups.
    @ivar byPrograms: whether any is about anything else.
    """

    def __init__(
        self,
        selectors: Iterable[Selector],
        uidOf: Callable[[str], int],
        realPath: Callable[[str], str],
    ) -> None:
        values: dict[SelectorKind, dict[str, str]] = {kind: {} for kind in SelectorKind}
        for selector in selectors:
            values[selector.kind].setdefault(selector.value, str(selector))
        self._realPath = realPath
        self._names = values[SelectorKind.NAME]
        self._paths = values[SelectorKind.PATH]
        self._realPaths: dict[str, tuple[str, ...]]
        self._realPaths = {path: (text,) for path, text in self._paths.items()}
        self._units = values[SelectorKind.UNIT]
        self._cgroups = tuple(values[SelectorKind.CGROUP].items())
        self._pids = {int(value): text for value, text in values[SelectorKind.PID].items()}
        self._starts: dict[int, int] = {}
        self._uids: dict[int, tuple[str, ...]] = {}
        for value, text in values[SelectorKind.UID].items():
            _add(self._uids, uidOf(value), text)
        self.byCgroups = bool(self._cgroups or self._units)
        self.bySockets = bool(self._uids) or self.byCgroups
        self.byPrograms = bool(self._names or self._paths or self._pids)

    def bindPids(self, startOf: Callable[[int], int | None]) -> list[str]:
        """See L{Matcher.bindPids}; returns the selectors alone."""
        nobody = []
        for pid, text in self._pids.items():
            started = startOf(pid)
            if started is None:
                nobody.append(text)
            else:
                self._starts[pid] = started
        return nobody

    def resolvePaths(self) -> None:
        """See L{Matcher.resolvePaths}."""
        paths: dict[str, tuple[str, ...]] = {path: (text,) for path, text in self._paths.items()}
        for path, text in self._paths.items():
            _add(paths, self._realPath(path), text)
        self._realPaths = paths

    def ofSocket(self, uid: int, cgroup: str) -> Iterator[str]:
        """
        Those that match all sockets of a user or of a cgroup.

        @param cgroup: a path; empty if it is unknown.
        """
        yield from self._uids.get(uid, ())
        if not cgroup or not self.byCgroups:
            return
        for path, text in self._cgroups:
            if path == "/" or cgroup == path or cgroup.startswith(f"{path}/"):
                yield text
        if self._units:
            for part in cgroup.split("/"):
                if part in self._units:
                    yield self._units[part]

    def ofProgram(self, pid: int, started: int, program: Program) -> Iterator[str]:
        """Those that match a process by its pid or program."""
        if self._starts.get(pid) == started:
            yield self._pids[pid]
        yield from self._realPaths.get(program.path, ())
        for name in program.names:
            if name in self._names:
                yield self._names[name]


def _add(texts: dict[_Key, tuple[str, ...]], key: _Key, text: str) -> None:
    """Add a text to those of a key, once."""
    known: tuple[str, ...] = texts.get(key, ())
    if text not in known:
        texts[key] = (*known, text)


def _uid(value: str, uidOf: Callable[[str], int], beginning: str) -> int:
    """
    A user's number.

    @param beginning: of the sentence that says that there is no such user.
    """
    try:
        return uidOf(value)
    except KeyError:
        near = nearUser(value)
        advice = f"did you mean {near}?" if near else "write another name, or a number."
        raise ConfigError(f"{beginning}this machine has no user {value}; {advice}") from None
