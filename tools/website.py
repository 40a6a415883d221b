"""
Hooks of mkdocs.yml: what the site has beyond the pages in docs/.

README.md, CHANGELOG.md, CONTRIBUTING.md, LICENSE and the manual page become pages.  So does
each file or folder of the repository that a page links to, so that every link that works in
a checkout works on the site.  A site that would load anything from another host is refused.
"""

from __future__ import annotations

import html
import posixpath
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

#: Pages of the site by their sources in the repository; a file in docs/ is a page by its name.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    "docs/nanotun.8": "manual.md",
}

#: What a browser fetches without being asked to: tags and the attribute with the address.
LOADS = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}

#: Links in C{<link>} that load nothing.
QUIET = {"alternate", "author", "canonical", "edit", "license", "next", "prev"}

#: Code, in which nothing is a link; or a link or picture.
_LINK = re.compile(
    r"^(?P<fence> *`{3,}|~{3,}).*?^(?P=fence)|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
    r"|\[(?P<label>[^\[\]]*)\]\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)

_COMMENT = re.compile(r"^<!--.*?-->$", re.MULTILINE | re.DOTALL)

_OUTSIDE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)

_LOADED_BY_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.I)


def pageOf(source: str) -> str:
    """The name of the page that is made of a file or folder, both without a leading slash."""
    if source in PAGES:
        return PAGES[source]
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    return f"files/{source}.md"


def linked(text: str, source: str) -> Iterator[str]:
    """
    Find the files and folders of the repository that a page links to.

    @param text: Markdown.
    @param source: the name of its file; what is returned is relative to the same folder.
    """
    for match in _LINK.finditer(text):
        if (target := _inside(match["target"], source)) is not None:
            yield target[0]


def relinked(text: str, source: str, title: Callable[[str], str | None]) -> str:
    """
    Turn links to files of the repository into links to pages of the site.

    @param text: Markdown.
    @param source: the name of its file.
    @param title: finds the title of a page by the page's name; a link whose text is the name of
        a file gets it.
    """
    here = posixpath.dirname(pageOf(source))

    def replaced(match: re.Match[str]) -> str:
        target = _inside(match["target"], source)
        if target is None:
            return match[0]
        name, fragment = target
        page, label = pageOf(name), match["label"]
        if posixpath.basename(label) == posixpath.basename(name):
            label = title(page) or label
        return f"[{label}]({posixpath.relpath(page, here or '.')}{fragment})"

    return _LINK.sub(replaced, text)


def adapted(text: str) -> str:
    """
    Turn Markdown as GitHub reads it into Markdown that Python's library reads in the same way.

    That wants four blanks before what belongs to an item of a list, an empty line between an
    item's second paragraph and the next item, no comment right above a table, and no backslash
    before a bar in a table's code.
    """
    lines: list[str] = []
    fence = ""
    indent = 0  # of what belongs to the item, 0 outside of lists
    several = False  # whether the item has more than one paragraph
    for line in _COMMENT.sub("", text).split("\n"):
        before = lines[-1] if lines else ""
        if fence:
            fence = "" if line.startswith(fence) else fence
        elif line.startswith("```"):
            fence = "```"
        elif item := re.match(r" ?(?:[-*]|\d+\.) +", line):
            if several and before:
                lines.append("")
            indent, several = item.end(), False
            line = line.lstrip(" ")
        elif indent and line.startswith(" " * indent):
            several = several or not before
            line = "    " + line[indent:]
        elif line and not before:
            indent = 0
        if line.startswith("|") and not fence:
            line = re.sub(r"`([^`]*\\\|[^`]*)`", _barred, line)
        lines.append(line)
    return "\n".join(lines)


def _barred(match: re.Match[str]) -> str:
    code = html.escape(match[1].replace("\\|", "|"), quote=False)
    return f"<code>{code.replace('|', '&#124;')}</code>"


def _inside(target: str | None, source: str) -> tuple[str, str] | None:
    """The name of the file or folder that is linked, if it is there, and the C{#fragment}."""
    if target is None or re.match(r"[a-z]+:|#|/", target):
        return None
    path, sharp, fragment = target.partition("#")
    name = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if name.startswith("..") or not (ROOT / name).exists():
        return None  # MkDocs says so.
    return name, sharp + fragment


def filePage(name: str) -> str:
    """The Markdown of a page that shows a file, or lists the files of a folder."""
    path = ROOT / name
    if path.is_dir():
        names = [each.name for each in sorted(path.iterdir()) if each.is_file()]
        items = "".join(f"- [{each}]({posixpath.basename(name)}/{each})\n" for each in names)
        return f"# {name}\n\n{items}"
    return f"# {name}\n\n{_fenced(path.read_text(), path.suffix[1:])}"


def _fenced(text: str, language: str) -> str:
    ticks = max(map(len, re.findall("`{3,}", text)), default=2) + 1
    return f"{'`' * ticks}{language or 'text'}\n{text}\n{'`' * ticks}\n"


def manual(page: Path) -> str:
    """
    Make Markdown of a manual page; its headings become those of the site.

    @raise FileNotFoundError: mandoc is missing.
    """
    if shutil.which("mandoc") is None:
        raise FileNotFoundError(
            "mandoc is missing, which makes a page of docs/nanotun.8: apt-get install mandoc"
        )
    text = subprocess.run(
        ["mandoc", "-T", "html", "-O", "fragment", str(page)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    text = re.sub(r'<table class="(?:head|foot)">.*?</table>', "", text, flags=re.DOTALL)
    text = re.sub(r"</?(?:section|div)\b[^>]*>", "", text)
    text = re.sub(r'<a class="permalink"[^>]*>(.*?)</a>', r"\1", text, flags=re.DOTALL)
    text = re.sub(
        r'<h([12]) class="S." id="([^"]*)">(.*?)</h\1>',
        lambda match: f"\n#{'#' * int(match[1])} {' '.join(match[3].split())} {{#{match[2]}}}\n",
        text,
        flags=re.DOTALL,
    )
    return f"# nanotun(8)\n{text}"


class _Loads(HTMLParser):
    """Collects what a page loads from other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        loads = [value for name, value in values.items() if (tag, name) in LOADS]
        if tag == "link" and not QUIET.intersection(values.get("rel", "").split()):
            loads.append(values.get("href", ""))
        self.found += [each for each in loads if _OUTSIDE.match(each)]
        self.found += _LOADED_BY_STYLE.findall(values.get("style", ""))


def loadedFromOutside(site: Path) -> list[str]:
    """A line for each address on another host that the site's pages or styles load."""
    lines: list[str] = []
    for path in sorted(site.rglob("*")):
        found: list[str] = []
        if path.suffix == ".html":
            text = path.read_text()
            parser = _Loads()
            parser.feed(text)
            found = parser.found
            for style in re.findall(r"<style\b[^>]*>(.*?)</style>", text, re.DOTALL):
                found += _LOADED_BY_STYLE.findall(style)
        elif path.suffix in (".css", ".svg"):
            found = _LOADED_BY_STYLE.findall(path.read_text())
        lines += [f"{path.relative_to(site)} loads {each}" for each in found]
    return lines


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs asks for the list of files: add those that are elsewhere."""
    from mkdocs.structure.files import File

    sources = {f"docs/{file.src_uri}" for file in files.documentation_pages()} | set(PAGES)
    done: set[str] = set()
    while todo := sources - done:
        for source in todo:
            page = pageOf(source)
            if files.get_file_from_path(page) is None:
                files.append(File.generated(config, page, content=_textOf(source)))
            if source.endswith(".md"):
                sources = sources | set(linked((ROOT / source).read_text(), source))
            elif (ROOT / source).is_dir():
                sources = sources | set(linked(filePage(source), source))
        done |= todo
    return files


def _textOf(source: str) -> str:
    if source.endswith(".8"):
        return manual(ROOT / source)
    if source.endswith(".md"):
        return (ROOT / source).read_text()
    if source == "LICENSE":
        return f"# Licence\n\n{_fenced((ROOT / source).read_text(), 'text')}"
    return filePage(source)


_SOURCES = {page: source for source, page in PAGES.items()}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """MkDocs is about to read a page: mend its links."""

    def title(name: str) -> str | None:
        file = files.get_file_from_path(name)
        return file.page.title if file and file.page and not name.startswith("files/") else None

    uri = page.file.src_uri
    if uri.startswith("files/"):
        source = uri.removeprefix("files/").removesuffix(".md")
    else:
        source = _SOURCES.get(uri, f"docs/{uri}")
    if uri == "index.md":
        page.meta["hide"] = ["navigation"]  # It is alone in its section.
    return adapted(relinked(markdown, source, title))


def on_post_build(config: MkDocsConfig) -> None:
    """MkDocs has written the site: look whether it keeps to itself."""
    from mkdocs.exceptions import PluginError

    if lines := loadedFromOutside(Path(config.site_dir)):
        raise PluginError("The site loads from other hosts:\n" + "\n".join(lines))
