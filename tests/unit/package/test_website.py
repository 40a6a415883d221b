"""Tests of tools/website.py: the pages of the site that are not in docs/, and its links."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import website


def untitled(page: str) -> None:
    """No page has a title."""


class RelinkedTests(SynchronousTestCase):
    """Links of Markdown files as links between pages."""

    def test_targets(self) -> None:
        """What a checkout has at the end of a link, the site has as well."""
        for source, target, expected in (
            ("README.md", "docs/rules.md", "rules.md"),
            ("README.md", "docs/rules.md#names", "rules.md#names"),
            ("README.md", "#settings", "#settings"),
            ("README.md", "etc/nanotun.yaml", "files/etc/nanotun.yaml.md"),
            ("README.md", "licenses/", "files/licenses.md"),
            ("docs/run.md", "../README.md#settings", "index.md#settings"),
            ("docs/run.md", "nanotun.8", "manual.md"),
            ("docs/run.md", "web-flows.png", "web-flows.png"),
            ("docs/run.md", "../nanotun/upstream/schemes", "files/nanotun/upstream/schemes.md"),
            ("licenses", "licenses/go.txt", "licenses/go.txt.md"),
            ("README.md", "https://docs.example/", "https://docs.example/"),
        ):
            self.assertEqual(
                website.relinked(f"a [b]({target})", source, untitled), f"a [b]({expected})"
            )

    def test_missing(self) -> None:
        """A link to nothing stays as it is, for MkDocs to complain of."""
        text = "[b](docs/no-such-page.md)"
        self.assertEqual(website.relinked(text, "README.md", untitled), text)

    def test_titles(self) -> None:
        """A link whose text is a file's name gets the title of the page, any other keeps its."""
        self.assertEqual(
            website.relinked(
                "[docs/run.md](docs/run.md), [so](docs/run.md#x)", "README.md", "<{}>".format
            ),
            "[<run.md>](run.md), [so](run.md#x)",
        )

    def test_code(self) -> None:
        """Nothing in code is a link."""
        for text in (
            "`[b](docs/run.md)`",
            "``a ` [b](docs/run.md)``",
            "```\n[b](docs/run.md)\n```",
            "  ```sh\n[b](docs/run.md)\n  ```",
        ):
            self.assertEqual(website.relinked(text, "README.md", untitled), text)


class AdaptedTests(SynchronousTestCase):
    """Markdown as GitHub reads it, for a library that reads some of it differently."""

    def test_lists(self) -> None:
        """All that belongs to an item has four blanks, code too; other text stays as it is."""
        for text, expected in (
            ("- a\n  b\n\n  c", "- a\n    b\n\n    c"),
            ("10. a\n\n    b", "10. a\n\n    b"),
            (" - a\n   b", "- a\n    b"),
            ("- a\n\n  ```\n    b\n  ```", "- a\n\n    ```\n      b\n    ```"),
            ("- a\n\nb\n\n  c", "- a\n\nb\n\n  c"),
            ("```\n- a\n  b\n```", "```\n- a\n  b\n```"),
        ):
            self.assertEqual(website.adapted(text), expected)

    def test_paragraphs(self) -> None:
        """An item after one of several paragraphs does not become part of it."""
        self.assertEqual(website.adapted("1. a\n\n   b\n2. c\n3. d"), "1. a\n\n    b\n\n2. c\n3. d")

    def test_tables(self) -> None:
        """A bar in a cell's code has no backslash, and a comment before a table is gone."""
        self.assertEqual(
            website.adapted("<!-- Made. -->\n| `\\|a<b` | `c` |"),
            "\n| <code>&#124;a&lt;b</code> | `c` |",
        )


class FilePageTests(SynchronousTestCase):
    """Pages about files that are no documentation."""

    def test_fence(self) -> None:
        """A file with fences of its own is shown whole."""
        path = Path(self.mktemp())
        path.write_text("````\na\n````\n")
        page = website.filePage(str(path.resolve()))
        self.assertIn("`````text\n````\na\n````\n", page)

    def test_folder(self) -> None:
        """The page of a folder links to each file in it."""
        page = website.filePage("licenses")
        self.assertEqual(
            set(website.linked(page, "licenses")),
            {f"licenses/{path.name}" for path in (ROOT / "licenses").iterdir()},
        )


class ManualTests(SynchronousTestCase):
    """The manual page as a page of the site."""

    if shutil.which("mandoc") is None:
        skip = "needs mandoc"

    def test_headings(self) -> None:
        """Its sections are the page's headings, so that the site lists them and links to them."""
        page = website.manual(ROOT / "docs" / "nanotun.8")
        self.assertNotIn("<h1", page)
        self.assertIn("\n## EXIT STATUS {#EXIT_STATUS}\n", page)
        self.assertIn("\n### start {#start}\n", page)
        self.assertNotIn("<section", page)


class LoadedFromOutsideTests(SynchronousTestCase):
    """What a browser would fetch from other hosts."""

    def found(self, name: str, text: str) -> list[str]:
        site = Path(self.mktemp())
        site.mkdir()
        (site / name).write_text(text)
        return website.loadedFromOutside(site)

    def test_loads(self) -> None:
        """Scripts, styles, pictures and fonts of other hosts are found."""
        for name, text in (
            ("a.html", '<script src="https://cdn.example/x">'),
            ("a.html", '<link rel="stylesheet" href="//cdn.example/x">'),
            ("a.html", '<link rel="preconnect" href="https://cdn.example/x">'),
            ("a.html", '<img src="HTTP://cdn.example/x">'),
            ("a.html", '<style>@import "https://cdn.example/x";</style>'),
            ("a.html", '<p style="background: url(https://cdn.example/x)">'),
            ("a.css", "@font-face { src: url('https://cdn.example/x') }"),
        ):
            lines = self.found(name, text)
            self.assertEqual(len(lines), 1, text)
            self.assertRegex(lines[0].lower(), rf"^{name} loads .*//cdn\.example/x$")

    def test_links(self) -> None:
        """Links that a reader follows, and the site's own files, are no loads."""
        self.assertEqual(
            self.found(
                "a.html",
                '<a href="https://other.example/">x</a><script src="../x.js"></script>'
                '<link rel="canonical" href="https://this.example/"><img src="data:,">',
            ),
            [],
        )


class WithoutMkDocsTests(SynchronousTestCase):
    """The hooks without MkDocs."""

    def test_imports(self) -> None:
        """The module can be read, and its links tried, where MkDocs is not installed."""
        subprocess.run(
            [sys.executable, "-c", "import sys; sys.modules['mkdocs'] = None; import website"],
            cwd=ROOT / "tools",
            check=True,
        )
