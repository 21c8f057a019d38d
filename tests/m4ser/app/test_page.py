"""The page in a real browser without a network: what a person opens, presses, reads and saves."""

import csv
import json
from importlib.util import find_spec

import av
import numpy as np
import pytest

from data_scripts.errors import UserError
from m4ser.__main__ import main
from modeling_m4ser.segments_m4ser import read_segments
from tests.docs.markdown import blocks
from tests.helpers import ROOT
from tests.helpers.tiny import EMOTIONS

# Imported where it is used, in the one process that runs these tests: it takes seconds.
pytestmark = pytest.mark.skipif(not find_spec("gradio"), reason="the page needs Gradio: pip install 'm4ser[app]'")
ANSWER = ".decision, .turns"
FAKE = "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"


@pytest.fixture(scope="module")
def address(listener, folder):
    from examples.app.screenshots import served

    examples = folder / "examples"
    examples.mkdir()
    (examples / "clip.wav").write_bytes((folder / "clip.wav").read_bytes())
    (examples / "manifest.csv").write_text("audio,text\nclip.wav,so happy\n", encoding="utf-8")
    with served(listener, examples) as address:
        yield address


@pytest.fixture(scope="module")
def browser(folder):
    from examples.app.screenshots import open_browser

    try:
        with open_browser(*FAKE, f"--use-file-for-fake-audio-capture={folder / 'clip.wav'}") as browser:
            yield browser
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def visit(address, browser):
    """Open the page; in the end, nothing was asked of another host, and the console has no error."""
    contexts, wrong = [], []

    def visit(**options):
        context = browser.new_context(permissions=["microphone"], **options)
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        local = (address, "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
        page.goto(address)
        page.get_by_role("button", name="Analyze").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong


def save(page, form, folder, how="click"):
    """Press one of the buttons of the first model, and return the file that comes."""
    button = page.get_by_role("button", name=form).first
    button.wait_for()
    with page.expect_download() as coming:
        button.click() if how == "click" else button.press("Enter")
    file = folder / coming.value.suggested_filename
    coming.value.save_as(file)
    return file


def test_a_recording_is_heard_read_shown_and_saved(visit, listener, folder, tmp_path):
    page = visit()
    page.locator("#recording input[type=file]").set_input_files(folder / "clip.wav")
    first, second = page.locator(".m4ser section:has(.decision)").nth(0), page.locator(".m4ser section").nth(1)
    second.wait_for()
    (row,) = listener.recognize(str(folder / "clip.wav"), "we go hom now")["models"][0]["rows"]
    assert first.locator(".decision strong").inner_text() == row["decision"]
    assert second.locator(".decision strong").inner_text() == "uncertain"
    marked = [mark.split()[0] for mark in first.locator("mark").all_inner_texts()]
    assert marked == [word["text"].split()[0] for word in row["corrections"]] != []
    words = page.get_by_label("Transcript")
    assert words.input_value() == "we go hom now"
    words.fill("so happy")
    words.press("Enter")
    page.wait_for_function("!document.body.innerText.includes('hom')")
    tables, rows, captions, picture = (save(page, form, tmp_path) for form in ("CSV", "JSON", "SRT", "PNG"))
    (written,) = json.loads(rows.read_text("utf-8"))
    (line,) = csv.DictReader(tables.read_text("utf-8").splitlines())
    assert (written["text"], float(line["confidence"])) == ("so happy", written["confidence"])
    assert read_segments(captions)[0].text == "so happy"
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_long_recording_is_a_timeline_that_the_player_follows(visit, folder, tmp_path):
    page = visit()
    page.get_by_text("Turns of a long recording").click()
    page.locator("#turns input[type=file]").set_input_files(folder / "turns.srt")
    page.get_by_text("turns.srt").wait_for()
    page.locator("#recording input[type=file]").set_input_files(folder / "call.wav")
    turns = page.locator(".turns").first.locator("li")
    turns.nth(1).wait_for()
    assert "Ann we <go>" in turns.first.inner_text()
    turns.nth(1).get_by_role("button").press("Enter")
    page.locator(".turns li[aria-current=true]", has_text="home now").first.wait_for()
    assert 20 <= page.evaluate("document.querySelector('.player').currentTime") < 21
    assert [turn["text"] for turn in json.loads(save(page, "JSON", tmp_path).read_text("utf-8"))] == [
        "we <go>",
        "home now",
    ]


def test_the_microphone_is_heard(visit):
    page = visit()
    page.get_by_label("Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.locator(ANSWER).first.wait_for()


def test_keys_are_enough(visit, tmp_path):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for _ in range(40):
        page.keyboard.press("Tab")
        if "clip.wav" in page.evaluate("document.activeElement.innerText || ''"):
            break
    page.keyboard.press("Enter")
    page.locator(ANSWER).first.wait_for()
    assert page.get_by_label("Transcript").input_value() == "so happy"
    assert save(page, "SRT", tmp_path, "Enter").is_file()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_video_is_heard_and_what_is_no_recording_is_told(visit, tmp_path):
    page = visit()
    with av.open(tmp_path / "film.mp4", "w") as film:
        stream = film.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.ones((1, 16000), "float32") / 9, format="fltp", layout="mono")
        frame.rate = 16000
        film.mux([*stream.encode(frame), *stream.encode(None)])
    (tmp_path / "note.mp4").write_text("no film", encoding="utf-8")
    for name, shown in (("film.mp4", ".decision"), ("note.mp4", ".toast-body:has-text('note.mp4')")):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open a video").click()
        chooser.value.set_files(tmp_path / name)
        page.locator(shown).first.wait_for()


def test_the_program_of_the_docs_runs(address, folder, monkeypatch, capsys):
    (program,) = (block.text for block in blocks(ROOT / "docs/how-to/app.md") if block.language == "python")
    monkeypatch.chdir(folder)
    exec(program.replace("http://localhost:7860", address), {})
    assert capsys.readouterr().out.split()[-1] in (*EMOTIONS, "uncertain")


def test_mistakes_are_one_line(tmp_path, capsys):
    options = {"--ssl_certfile a.pem": "go together", "--ssl_certfile a.pem --ssl_keyfile b.pem": "a.pem: no such file"}
    for words, message in (options | {"--host 0.0.0.0": "nothing"}).items():
        assert main(["app", "--model", str(tmp_path / "nothing"), *words.split()]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
