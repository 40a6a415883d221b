"""
Scripts for nanotun, where only their owner can write.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from textwrap import dedent

from tests.e2e.lab.process import PROJECT_ROOT

EXAMPLES = PROJECT_ROOT / "tests/examples"


class Folder:
    """A directory of root's or another user's.  The checkout might belong to anybody."""

    def __init__(self, uid: int = 0) -> None:
        self.uid = uid
        self.path = Path(tempfile.mkdtemp(prefix="nanotun-script-", dir="/tmp"))
        self.path.chmod(0o755)
        os.chown(self.path, uid, -1)

    def write(self, text: str, name: str = "flows.py") -> Path:
        """
        Write a script there; whoever reads it sees the old one or the new one.

        @return: its path.
        """
        path, fresh = self.path / name, self.path / f".{name}"
        fresh.write_text(dedent(text))
        fresh.chmod(0o644)
        os.chown(fresh, self.uid, -1)
        fresh.rename(path)
        return path

    def lines(self, name: str = "said") -> list[str]:
        """The lines that a script has written into a file there, if it has."""
        path = self.path / name
        return path.read_text().splitlines() if path.exists() else []

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path)


def example(name: str, **constants: object) -> str:
    """
    An example of docs/script.md.

    @param constants: variables of its first lines that get another value.
    """
    lines = (EXAMPLES / name).read_text().splitlines(keepends=True)
    for constant, value in constants.items():
        (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{constant} = "))
        lines[at] = f"{constant} = {value!r}\n"
    return "".join(lines)
