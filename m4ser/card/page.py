"""The card as one page of HTML: what was tested, the verdicts by section, and every check with its numbers."""

import base64
import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from m4ser.card.checks import FAILED, PASSED, UNKNOWN, Check, Measured
from m4ser.card.plan import SECTIONS
from trainer.studies.report import html_page

Result = tuple[Check, Measured, str]

#: Told apart by a sign, too: colors alone are not for everyone.
_SIGNS = {PASSED: "✓ passed", FAILED: "✗ failed", UNKNOWN: "? cannot tell"}
_STYLE = (
    ".passed{color:light-dark(#11632b,#7ee29b)}.failed{color:light-dark(#a3121b,#ff9c9c);font-weight:600}"
    ".cannot{color:light-dark(#5a4a00,#e6cf6b)}a{color:light-dark(#0b4fa8,#8ab8ff)}"
    "td:first-child,th:first-child{white-space:normal;min-width:8rem}dt{font-weight:600}dd{overflow-wrap:anywhere}"
    "@media(max-width:40rem){body{margin:1rem auto}table{font-size:.8rem}dd{margin-left:1rem}}"
)
_NOTE = (
    "<p>A check <b>passed</b> where its whole 95 % interval lies within the bound, and <b>failed</b> where all of it "
    "lies outside. Otherwise these data cannot tell: more speakers would. The bounds were written to "
    "<code>bounds.json</code> before the model answered. Numbers are percent unless they say otherwise. Speakers are "
    "drawn with replacement; what is said of one speaker is of utterances. Intervals hold one by one: of bounds that "
    "are met exactly, one in 40 seems passed by chance, and one in 40 failed.</p>"
)


def draw_page(
    title: str, facts: Mapping[str, str], results: Sequence[Result], figures: Mapping[str, tuple[str, Path]]
) -> str:
    """Return the page.

    Args:
        title: of the page.
        facts: what was tested, and how, in words.
        results: each check with what was measured and its verdict.
        figures: section -> what its picture shows, and its file.
    """
    terms = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in facts.items())
    sections = {name: [each for each in results if each[0].section == name] for name in SECTIONS}
    counts = [[f'<a href="#{name}">{SECTIONS[name]}</a>', *_counts(some)] for name, some in sections.items() if some]
    verdicts = _table(["", *map(_marked, _SIGNS), "checks"], [*counts, ["all", *_counts(results)]])
    body = [f"<main><h1>{html.escape(title)}</h1><dl>{terms}</dl><h2>Verdicts</h2>{verdicts}{_NOTE}"]
    for name, some in sections.items():
        if not some:
            continue
        body.append(f'<h2 id="{name}">{SECTIONS[name]}</h2>')
        if name in figures:
            shown, path = figures[name]
            picture = base64.b64encode(path.read_bytes()).decode()
            body.append(f'<p><img alt="{html.escape(shown)}" src="data:image/png;base64,{picture}"></p>')
        body.append(_table(["check", "verdict", "bound", "measured", "95 % interval", "n", "note"], _lines(some)))
    return html_page(title, "\n".join([*body, "</main>"]), _STYLE)


def _lines(results: Sequence[Result]) -> Iterator[list[str]]:
    for check, found, verdict in results:
        ends = "–" if found.low in (None, found.high) else f"{check.write(found.low)} to {check.write(found.high)}"
        cells = [check.bound, check.write(found.value), ends, str(found.utterances or ""), found.note]
        yield [html.escape(check.name), _marked(verdict), *map(html.escape, cells)]


def _marked(verdict: str) -> str:
    return f'<span class="{verdict.split()[0]}">{_SIGNS[verdict]}</span>'


def _counts(results: Sequence[Result]) -> list[str]:
    counts = Counter(verdict for *_, verdict in results)
    return [*(str(counts[verdict]) for verdict in _SIGNS), str(len(results))]


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML; one wider than the screen scrolls, by keys too."""
    titles = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<table tabindex="0"><thead><tr>{titles}</tr></thead><tbody>\n{lines}</tbody></table>'
