"""
The file that packets are written to.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

from nanotun.errors import NanotunError

#: What stands for standard output.
STANDARD = "-"


class CaptureFile:
    """
    Takes whole blocks, and has them at once, so that it is readable however the program ends.

    @ivar name: for people.
    @ivar size: bytes that were written.
    """

    def __init__(self, path: str, force: bool) -> None:
        """
        @param path: the file's, or L{STANDARD}.
        @param force: whether one that exists is overwritten.
        @raise NanotunError: it cannot be written; with one sentence.
        """
        self.size = 0
        self.name = "standard output" if path == STANDARD else path
        if path == STANDARD:
            self._fd = sys.stdout.fileno()
            if os.isatty(self._fd):
                raise NanotunError(
                    "Packets are no text for a terminal; send the output to a program or a file."
                )
        else:
            self._fd = _opened(path, force)
        self._isOwn = path != STANDARD
        self._isRegular = self._isOwn and stat.S_ISREG(os.fstat(self._fd).st_mode)

    def write(self, data: bytes) -> None:
        """
        Write some blocks.

        @raise BrokenPipeError: nobody reads them.
        @raise NanotunError: there is no place for them; the file ends with the block before.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._isRegular:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self.size)
            raise NanotunError(
                f"{self.name} cannot be written any more ({error.strerror})."
            ) from None
        self.size += len(data)

    def close(self) -> None:
        """Close it, unless it is standard output."""
        if self._isOwn:
            os.close(self._fd)


def _opened(path: str, force: bool) -> int:
    # What others sent is nobody else's business, and a link may lead anywhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | (os.O_TRUNC if force else os.O_EXCL), 0o600)
    except FileExistsError:
        raise NanotunError(
            f"{path} exists; choose another name, or have it overwritten with --force."
        ) from None
    except OSError as error:
        raise NanotunError(f"{path} cannot be written ({error.strerror}).") from None
