"""
Finds the excluded and the chosen control groups (version 2) that exist.

The kernel can only match groups that exist when the rules are loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from nanotun.config.selectors import Selector, SelectorKind, isMatchable
from nanotun.routing.firewall.rules import Cgroup

#: The folder below which nft looks for groups.
SYSTEM_FOLDER = "/sys/fs/cgroup"

#: Groups that a search for a unit reads at most.
SEARCH_LIMIT = 4096


def usualPath(unit: str) -> str:
    """
    The group where systemd usually puts a system unit: a service is in C{system.slice}, an
    instance C{a@b.service} in C{system-a.slice} below it, and a slice C{a-b.slice} in
    C{a.slice} (systemd.unit(5), systemd.slice(5)).
    """
    if not unit.endswith(".slice"):
        template, at, _ = unit.partition("@")
        # A dash would mean one more slice.
        escaped = template.replace("\\", "\\x5c").replace("-", "\\x2d")
        return f"/system.slice/system-{escaped}.slice/{unit}" if at else f"/system.slice/{unit}"
    parts = unit.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[: n + 1])}.slice" for n in range(len(parts)))


class Cgroups:
    """
    Finds groups, and units by their names.

    @param folder: where the hierarchy is mounted; empty if it is not.
    """

    def __init__(self, selectors: Sequence[Selector], folder: str) -> None:
        self._selectors = [
            each for each in selectors if each.kind in (SelectorKind.CGROUP, SelectorKind.UNIT)
        ]
        self._folder = folder
        self._found: dict[str, str] = {}

    def others(self, selectors: Sequence[Selector]) -> Cgroups:
        """A finder of other groups in the same hierarchy."""
        return Cgroups(selectors, self._folder)

    def usual(self) -> tuple[Cgroup, ...]:
        """All groups at their usual paths, whether they exist or not."""
        paths = (
            each.value if each.kind is SelectorKind.CGROUP else usualPath(each.value)
            for each in self._selectors
        )
        return tuple(self._cgroup(path, 0) for path in dict.fromkeys(paths) if path != "/")

    def hidden(self, below: str) -> bool:
        """Whether groups are asked for, but the hierarchy is not mounted at or below C{below}."""
        visible = self._folder and f"{self._folder}/".startswith(f"{below}/")
        return bool(self._selectors) and not visible

    def existing(self, search: bool = False) -> tuple[Cgroup, ...]:
        """
        The groups that exist.

        @param search: whether to search the hierarchy for units that are neither at their
            usual path nor where they were found before.
        """
        missing = {
            each.value
            for each in self._selectors
            if each.kind is SelectorKind.UNIT
            and not self._exists(self._found.get(each.value, usualPath(each.value)))
        }
        if search and missing and self._folder:
            self._search(missing)
        paths = (
            each.value
            if each.kind is SelectorKind.CGROUP
            else self._found.get(each.value, usualPath(each.value))
            for each in self._selectors
        )
        found = (self._cgroup(path, self._exists(path)) for path in dict.fromkeys(paths))
        return tuple(each for each in found if each.id)

    def _exists(self, path: str) -> int:
        """The group's number; 0 if it does not exist or cannot be matched."""
        # Every process is in the root, and nft cannot quote every name.
        unusable = path == "/" or not isMatchable(path)
        if not self._folder or unusable:
            return 0
        try:
            return os.stat(self._folder + path).st_ino
        except OSError:
            return 0

    def _cgroup(self, path: str, number: int) -> Cgroup:
        below = self._folder.removeprefix(SYSTEM_FOLDER)
        visible = f"{self._folder}/".startswith(f"{SYSTEM_FOLDER}/")
        return Cgroup(path, f"{below}{path}".lstrip("/") if visible else "", number)

    def _search(self, units: set[str]) -> None:
        for path in _folders(self._folder):
            name = os.path.basename(path)
            if name in units:
                self._found[name] = path.removeprefix(self._folder)
                units.discard(name)
            if not units:
                return


def _folders(root: str) -> Iterator[str]:
    """The groups below C{root}, level by level, up to L{SEARCH_LIMIT}."""
    waiting = [root]
    for number in range(SEARCH_LIMIT):
        if number >= len(waiting):
            return
        if number:
            yield waiting[number]
        try:
            with os.scandir(waiting[number]) as entries:
                waiting += sorted(
                    entry.path for entry in entries if entry.is_dir(follow_symlinks=False)
                )
        except OSError:
            continue
