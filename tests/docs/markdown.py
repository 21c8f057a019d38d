"""Reading the documentation: its pages, their fenced blocks, links, headings and code spans."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
#: The changelog names what is gone, and so is not held to what there is.
CURRENT_PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    """A page's path within the repository."""
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text, and the line where the text starts."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text[: m.start(2)].count("\n") + 1) for m in _FENCE.finditer(text)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(text: str) -> list[str]:
    """The inline code of a text."""
    return re.findall(r"`([^`\n]+)`", text)


def commands(block: Block) -> list[list[str]]:
    """The commands of a bash block as lists of words, continued lines joined, comments left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures, but for those that lead out of the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page says after `#`, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def includes(page: Path) -> list[tuple[str, list[str]]]:
    """The files that a page includes, `--8<-- "FILE"` or `"FILE:FIRST:LAST"`, and the lines of each."""
    found = []
    for target in re.findall(r'^--8<-- "(.+)"$', prose(page), re.MULTILINE):
        path, _, part = target.partition(":")
        first, _, last = part.partition(":")
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        found.append((target, lines[int(first or 1) - 1 : int(last) if last else None]))
    return found
