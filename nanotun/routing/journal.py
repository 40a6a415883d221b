"""
The journal: changes that have to be undone, on disk before they are applied.

It is one JSON file, which is replaced as a whole.  It names the boot and the network
namespace that it is about: elsewhere its changes would be somebody else's.  If that is gone, as
after the restart of a container, so are they.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nanotun.errors import RoutingError
from nanotun.linux.trust import NotTrusted, openTrusted
from nanotun.routing.place import NetworkPlace, currentPlace, isGone
from nanotun.rundir import JOURNAL, command

#: Bytes; a thousand changes need a tenth of that.
SIZE_LIMIT = 4 << 20

_VERSION = 1


class Entry(NamedTuple):
    """A change on disk: its kind and its record."""

    kind: str
    record: dict[str, Any]


class Journal:
    """
    Reads and writes the file.

    @param directory: created with mode 0755 if it is missing.
    @param place: returns the current boot and network namespace.
    @param gone: see L{isGone}.
    """

    def __init__(
        self,
        directory: str,
        place: Callable[[], NetworkPlace] = currentPlace,
        gone: Callable[[NetworkPlace, NetworkPlace], bool] = isGone,
    ) -> None:
        self.runDir = directory
        self.path = os.path.join(directory, JOURNAL)
        self._new = f"{self.path}.new"
        self._directory = directory
        self._place = place
        self._gone = gone

    def read(self) -> tuple[list[Entry], bool]:
        """
        Read the changes to undo, in the order in which they were applied, and whether a
        kill switch is one of them.

        @raise RoutingError: the file cannot be read, is not root's alone, or is about another
            network namespace of this boot that still exists.
        """
        try:
            with open(openTrusted(self._directory, JOURNAL, os.O_RDONLY), "rb") as file:
                data = file.read(SIZE_LIMIT)
        except FileNotFoundError:
            return [], False
        except NotTrusted as error:
            raise untrusted(error, self._directory) from None
        except OSError as error:
            raise RoutingError(
                f"The journal {self.path} cannot be read: {error.strerror}."
            ) from None
        try:
            whole = json.loads(data)
            # An older nanotun has written no cookie.
            place = NetworkPlace(
                whole["boot"], int(whole["namespace"]), int(whole.get("cookie", 0))
            )
            if whole["version"] != _VERSION:
                raise ValueError(whole["version"])
            entries = [Entry(str(each["kind"]), dict(each["record"])) for each in whole["changes"]]
            killSwitch = bool(whole["killSwitch"])
        except (ValueError, KeyError, TypeError):
            raise RoutingError(
                f"The journal {self.path} is damaged; '{command('recover', self.runDir)} --force' "
                "undoes what can be told to be nanotun's without it."
            ) from None
        here = self._place()
        if place.boot != here.boot:
            # The reboot has undone everything.
            return [], False
        if not place.isSame(here):
            if self._gone(place, here):
                return [], False
            raise RoutingError(
                f"The journal {self.path} is about another network namespace; run "
                f"'{command('recover', self.runDir)}' there, or give this nanotun a runDir of its "
                "own."
            )
        return entries, killSwitch

    def write(self, entries: Sequence[Entry], killSwitch: bool) -> None:
        """
        Replace the file; it is on disk when this returns.  Without entries it is removed.

        @raise RoutingError: the file cannot be written; the old one is kept.
        """
        if not entries:
            self.remove()
            return
        here = self._place()
        whole = {
            "version": _VERSION,
            "boot": here.boot,
            "namespace": here.namespace,
            "cookie": here.cookie,
            "killSwitch": killSwitch,
            "changes": [each._asdict() for each in entries],
        }
        try:
            os.makedirs(self._directory, mode=0o755, exist_ok=True)
            self._removeNew()
            fd = os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as file:
                json.dump(whole, file, indent=1)
                file.flush()
                os.fsync(fd)
            os.rename(self._new, self.path)
            self._syncDirectory()
        except OSError as error:
            raise RoutingError(
                f"The journal {self.path} cannot be written ({error.strerror}); make room "
                "there, or set runDir to another directory."
            ) from None

    def remove(self) -> None:
        """
        Remove the file: there is nothing left to undo.

        @raise RoutingError: the file cannot be removed.
        """
        try:
            self._removeNew()
            os.unlink(self.path)
            self._syncDirectory()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RoutingError(
                f"The journal {self.path} cannot be removed: {error.strerror}."
            ) from None

    def _removeNew(self) -> None:
        """Remove the file that a process has left if it was killed while writing."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._new)

    def _syncDirectory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def untrusted(error: NotTrusted, runDir: str) -> RoutingError:
    """What to do about a file of a C{runDir} that is not root's alone."""
    force = f"{command('recover', runDir)} --force"
    return RoutingError(f"{error} Give the runDir of the daemon that was killed, or run '{force}'.")
