"""
The example of docs/extending.md, as a user would install it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests import ROOT

PAGE = ROOT / "docs" / "extending.md"

_FILE = re.compile(r"^`([^`\n]+)`:\n\n```[a-z]+\n(.*?)^```$", re.M | re.S)


def exampleFiles() -> dict[str, str]:
    """The text of each file of the example, by its path."""
    return dict(_FILE.findall(PAGE.read_text()))


def installExample(directory: Path) -> Path:
    """
    Install the example as a package.

    @param directory: an empty one, for it and what is made of it.
    @return: the directory to add to C{PYTHONPATH}.
    """
    source, site = directory / "source", directory / "site"
    for name, text in exampleFiles().items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = "install --quiet --no-deps --no-build-isolation --no-index --target"
    subprocess.run(
        [sys.executable, "-m", "pip", *command.split(), str(site), str(source)],
        check=True,
        capture_output=True,
        text=True,
    )
    return site
