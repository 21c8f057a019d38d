"""The page holds every check, and nothing of a name can be markup."""

from html.parser import HTMLParser

from m4ser.card.checks import Check, Measured, counted
from m4ser.card.page import draw_page


def test_page(tmp_path):
    (picture := tmp_path / "p.png").write_bytes(b"\x89PNG")
    checks = [
        (Check("right", "recall of <script>", lambda _: counted(0), least=0.5), Measured(0.75, 0.6, 0.9, 40), "passed"),
        (Check("leaks", "copies", lambda _: counted(0), most=0, percent=False), counted(3), "failed"),
        (Check("leaks", "texts", lambda _: counted(0), most=0.2), Measured(None, note="no & texts"), "cannot tell"),
    ]
    page = draw_page("Card of a & b", {"Data": "<b>"}, checks, {"right": ("confusions", picture)})
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(page)
    assert "script" not in {tag for tag, _ in tags}
    assert "<b>" not in page.split("<dd>")[1].split("</dd>")[0]
    assert {each["href"] for tag, each in tags if tag == "a"} == {"#right", "#leaks"}
    assert {each.get("id") for tag, each in tags if tag == "h2"} == {None, "right", "leaks"}
    assert "✓ passed" in page
    assert "60.0 to 90.0" in page
    assert "≥ 50.0" in page
    assert "no &amp; texts" in page
    assert [each["src"][:22] for tag, each in tags if tag == "img"] == ["data:image/png;base64,"]
    assert "http" not in page  # nothing is loaded
