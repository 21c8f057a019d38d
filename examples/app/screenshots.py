"""Take the pictures of the page that the documentation shows: a clip, a timeline, a phone in the dark.

    python examples/app/screenshots.py --model runs/demo/model --asr openai/whisper-tiny.en --output_dir docs/pictures

It needs playwright, and its Chromium or one of the system.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_scripts.errors import UserError, run_command
from data_scripts.parsers import CommandParser

_SAMPLES = Path(__file__).resolve().parents[1] / "demo" / "sample_corpus"
_CLIP, _WORDS = "us_f4_angry_4.flac", "I saw a myth of station."
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@contextmanager
def open_browser(*flags: str) -> Iterator[Any]:
    """Open a Chromium without a window, the system's or else playwright's; raise `UserError` where there is none."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise UserError(f"a browser is driven by playwright ({error}): pip install playwright") from error
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=found, args=[*_FLAGS, *flags])
        except Error as error:
            raise UserError("there is no Chromium: run `playwright install chromium`") from error
        yield browser
        browser.close()


@contextmanager
def served(listener: Any, examples: Path | None = None) -> Iterator[str]:
    """Serve the page of a listener from this process, and give its address."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from m4ser.app.page import LOOK, build_page

    page = build_page(listener, examples)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **LOOK)
    try:
        yield address
    finally:
        page.close(verbose=False)


def take(listener: Any, call: Path, folder: Path) -> None:
    """Write `app.png`, `app_timeline.png` and `app_phone.png` into a folder."""
    clip = str(_SAMPLES / "audio" / _CLIP)
    looks = {
        "app": (clip, {"width": 1100, "height": 640}, "light"),
        "app_timeline": (str(call), {"width": 1100, "height": 640}, "light"),
        "app_phone": (clip, {"width": 390, "height": 1150}, "dark"),
    }
    with served(listener, _SAMPLES) as address, open_browser() as browser:
        for name, (recording, size, scheme) in looks.items():
            page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
            page.goto(address)
            page.locator("#recording input[type=file]").set_input_files(recording)
            page.locator(".decision, .turns").first.wait_for(timeout=300_000)
            if recording == clip:
                page.get_by_label("Transcript").fill(_WORDS)
                page.get_by_label("Transcript").press("Enter")
                page.locator(".decision").wait_for(timeout=300_000)
            else:
                page.evaluate("document.querySelector('.player').currentTime = 9")
            page.get_by_text("PNG").wait_for(timeout=300_000)
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / f"{name}.png")
            print(folder / f"{name}.png")


def make_call(file: Path) -> Path:
    """Write clips of the sample corpus after one another: a recording that is long enough for a timeline."""
    import numpy as np
    import soundfile

    parts = [soundfile.read(clip)[0] for clip in sorted((_SAMPLES / "audio").glob("us_f4_*_[0-2].flac"))]
    gap = np.zeros(24000)
    soundfile.write(file, np.concatenate([part for clip in parts for part in (clip, gap)]), 16000)
    return file


def main(arguments: Sequence[str]) -> int:
    """Take the pictures; returns the exit status."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--asr", required=True, help="ASR model that writes the transcripts")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the pictures")
    options = parser.parse_args(arguments)

    def run() -> None:
        from m4ser.app.listener import Listener

        with tempfile.TemporaryDirectory() as folder:
            take(Listener([options.model], options.asr), make_call(Path(folder) / "call.wav"), options.output_dir)

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
