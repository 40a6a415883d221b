"""Tests of the map of the code: docs/architecture.md, docs/rooms.svg and CONTRIBUTING.md."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests import ROOT

ARCHITECTURE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "rooms.svg"

#: A file or folder between backticks.
NAMED = re.compile(r"`([a-z][\w/.-]*(?:/|\.(?:py|go|h|md|svg)))`")


class MapTests(SynchronousTestCase):
    """What the documents say of files and folders."""

    def test_rooms(self) -> None:
        """Every room of nanotun/ is in the table of the rooms and in their picture."""
        text, picture = ARCHITECTURE.read_text(), PICTURE.read_text()
        rooms = [each.parent.name for each in ROOT.glob("nanotun/*/__init__.py")]
        self.assertGreater(len(rooms), 10)
        missing = [
            room for room in rooms if f"| `{room}/` |" not in text or f"{room}/" not in picture
        ]
        self.assertEqual(missing, [])

    def test_files(self) -> None:
        """Every file and folder that the documents name is in the project, if only deeper."""
        there = [
            f"/{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}"
            for top in ("benchmarks", "docs", "etc", "nanotun", "netstack", "tests", "tools")
            for path in (ROOT / top, *(ROOT / top).rglob("*"))
        ]
        wrong = [
            f"{document.name}: {name}"
            for document in (ARCHITECTURE, ROOT / "CONTRIBUTING.md")
            for name in NAMED.findall(document.read_text())
            if not any(path.endswith(f"/{name}") for path in there)
        ]
        self.assertEqual(wrong, [])
