"""The page itself, in Gradio: what stands where, and what happens when."""

import html
import tempfile
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import pandas as pd

from data_scripts.errors import UserError
from data_scripts.files import folder_name
from m4ser.app import views
from m4ser.app.listener import Listener
from m4ser.timeline import write_rows
from m4ser.timeline_figure import draw_timeline
from modeling_m4ser.audio_m4ser import AudioError, audio_duration, decode_audio

_FOLDER = Path(__file__).parent
_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # no font is fetched
_CONTRAST = {"body_text_color_subdued": "*neutral_600", "button_primary_background_fill": "*primary_700"}
#: What `launch` needs for the page to look as it does.
LOOK: dict[str, Any] = {
    "theme": gr.themes.Default(primary_hue="blue", **_FONTS).set(**_CONTRAST),
    "footer_links": ["api"],
    "run_history": False,
    "css": (_FOLDER / "page.css").read_text(encoding="utf-8"),
    "js": (_FOLDER / "page.js").read_text(encoding="utf-8"),
}
_EXPORTS = ("CSV", "JSON", "SRT", "PNG")
_PROGRESS = gr.Progress(track_tqdm=True)  # shows the bar of `pipe.timeline`
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_SOUNDS = {".wav", ".flac", ".mp3", ".ogg", ".m4a", ".opus"}
_MOST_EXAMPLES = 8
_NOTICE = (
    "An emotion here is how a listener might name a voice, not what somebody feels. Do not use it to judge people: not "
    "in hiring, policing, schooling or health care. Recordings stay on the machine of this page, two hours at most."
)
_TITLE = (
    "<h1>Emotions in a voice</h1><p class='insecure' hidden>This address is not https, so the browser keeps the "
    "microphone to itself: open a recording instead.</p>"
)
_HINT = "<p class='hint'>Record or open a recording, or click an example: its emotion appears here.</p>"


class Panel(NamedTuple):
    """What shows the answer of one model: the answer itself, and a button for each file that it can be had as."""

    shown: gr.HTML
    files: list[gr.DownloadButton]


class Parts(NamedTuple):
    """What a person touches, and what the answers go to."""

    audio: gr.Audio
    video: gr.UploadButton
    text: gr.Textbox
    button: gr.Button
    turns: gr.File
    player: gr.HTML
    panels: list[Panel]
    answers: gr.JSON  # of `Listener.recognize`; what shows and saves them reads them here


def build_page(listener: Listener, examples: Path | None = None) -> gr.Blocks:
    """Return the page of the models of a listener.

    Args:
        listener: answers recordings.
        examples: a folder of recordings to click; `manifest.csv` in it may name them (`audio`) and their words.
    """
    with gr.Blocks(title="M4SER", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.HTML(_TITLE, elem_classes="m4ser", apply_default_css=False)
        parts = _lay_out(listener)
        clicked = _examples(examples, [parts.audio, parts.text] if listener.uses_text else [parts.audio])
        gr.Markdown(_NOTICE)
        for name, about in listener.abouts.items():
            with gr.Accordion(f"What {name} was trained on, and what it is not for", open=False):
                gr.Markdown(about)
        _wire(listener, parts, clicked)
    return page


def _lay_out(listener: Listener) -> Parts:
    way = "Is written by the recognizer; you may edit it." if listener.asr else "Write what is said."
    kinds = [".srt", ".vtt", ".rttm", ".txt"]
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            audio = gr.Audio(
                label="Recording", sources=["upload", "microphone"], type="filepath", elem_id="recording", buttons=[]
            )
            video = gr.UploadButton("Open a video", file_types=["video", "audio"], size="sm")
            text = gr.Textbox(label="Transcript", info=f"{way} Enter analyzes.", visible=listener.uses_text)
            button = gr.Button("Analyze", variant="primary")
            with gr.Accordion("Turns of a long recording", open=False):
                turns = gr.File(
                    label="Captions or turns; without, speech is found", file_types=kinds, height=120, elem_id="turns"
                )
        with gr.Column(scale=3, min_width=300):
            player = gr.HTML(elem_classes="m4ser", visible=False)
            with gr.Row():
                panels = [_panel() for _ in listener.pipes]
    return Parts(audio, video, text, button, turns, player, panels, gr.JSON(visible=False))


def _wire(listener: Listener, parts: Parts, clicked: Any) -> None:
    """Say what happens when: the answers come by themselves as soon as there are words to read."""
    audio, text, panels, answers = parts.audio, parts.text, parts.panels, parts.answers
    results = [parts.player, *(panel.shown for panel in panels), *(file for panel in panels for file in panel.files)]
    blank = partial(_blank, len(panels))
    quiet: dict[str, Any] = {"show_progress": "hidden", **_PRIVATE}

    def recognize(
        recording: str, text: str, turns: str | None = None, progress: gr.Progress = _PROGRESS
    ) -> dict[str, Any]:
        """Return the emotions of a recording, and of its turns where it is long or has a file of them."""
        return listener.recognize(recording, text, turns)

    def analyze_after(event: Callable[..., Any], **options) -> None:
        options["show_progress_on"] = [panel.shown for panel in panels]
        found = event(_told(recognize), [audio, text, parts.turns], [answers], **options)
        shown = found.success(_show, [answers, audio], results, **quiet)
        for number, panel in enumerate(panels):
            shown.success(partial(_export, number), [answers, audio], panel.files, **quiet)

    def transcribe_after(event: Callable[..., Any]) -> None:
        event(blank, None, results, **quiet)
        heard = event(_told(listener.transcribe), [audio], [text], **_PRIVATE)
        if listener.asr or not listener.uses_text:
            analyze_after(heard.success, **_PRIVATE)

    analyze_after(partial(gr.on, [parts.button.click, text.submit]), api_name="recognize")
    transcribe_after(partial(gr.on, [audio.upload, audio.stop_recording]))
    transcribe_after(parts.video.upload(_told(_sound), [parts.video], [audio], **_PRIVATE).success)
    audio.clear(lambda: ["", *blank()], None, [text, *results], **quiet)
    if clicked is not None:
        analyze_after(clicked.success, **_PRIVATE)


def _panel() -> Panel:
    with gr.Column(min_width=280):
        shown = gr.HTML(_HINT, elem_classes="m4ser", apply_default_css=False, min_height=200)
        with gr.Row():
            files = [gr.DownloadButton(form, size="sm", min_width=60, visible=False) for form in _EXPORTS]
    return Panel(shown, files)


def _examples(folder: Path | None, inputs: list[Any]) -> Any:
    """Offer the recordings of a folder, and return the event of a click on one; None where there are none."""
    if folder is None or not folder.is_dir():
        return None
    if (folder / "manifest.csv").is_file():
        table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
        words = next((column for column in ("hypothesis", "text", "transcript") if column in table), None)
        if {"speaker", "emotion"} <= {*table}:  # one voice, each emotion once or twice
            table = table[table["speaker"] == table["speaker"].iloc[-1]].groupby("emotion").tail(_MOST_EXAMPLES // 4)
        rows = [[str(folder / row["audio"]), row[words] if words else ""] for _, row in table.iterrows()]
    else:
        rows = [[str(file), ""] for file in sorted(folder.iterdir()) if file.suffix.lower() in _SOUNDS]
    rows = [row[: len(inputs)] for row in rows[:_MOST_EXAMPLES]]
    if not rows:
        return None
    return gr.Examples(rows, inputs, label="Examples: click one", **_PRIVATE).load_input_event


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function say in the page what a person can correct; anything else is a bug, and stays in the log."""

    @wraps(function)
    def tell(recording: str | None, *arguments: Any) -> Any:
        if not recording:
            raise gr.Error("Record or open a recording first.", print_exception=False)
        try:
            return function(recording, *arguments)
        except (UserError, AudioError, ImportError, ValueError) as error:
            said = str(error).replace(recording, Path(recording).name)
            raise gr.Error(html.escape(said), duration=None, print_exception=False) from error

    return tell


def _sound(video: str) -> tuple[int, np.ndarray]:
    """Return the sound of a video as a recording."""
    samples, rate = decode_audio(video)
    return round(rate), samples


def _blank(models: int) -> list[Any]:
    return [gr.HTML(visible=False), *[_HINT] * models] + [gr.DownloadButton(visible=False)] * len(_EXPORTS) * models


def _show(answers: dict[str, Any], recording: str) -> list[Any]:
    found = answers["models"]
    names = [model["name"] if len(found) > 1 else "" for model in found]
    if answers["is_timeline"]:
        seconds = audio_duration(recording)
        shown = [views.show_turns(name, model["rows"], seconds) for name, model in zip(names, found, strict=True)]
    else:
        shown = [views.show_utterance(name, model["rows"][0]) for name, model in zip(names, found, strict=True)]
    player = gr.HTML(views.show_player(recording) if answers["is_timeline"] else "", visible=answers["is_timeline"])
    return [player, *shown, *_blank(len(found))[1 + len(found) :]]


def _export(number: int, answers: dict[str, Any], recording: str) -> Iterator[list[Any]]:
    """Yield the buttons of one model, each with its file: Gradio has copied them when this goes on."""
    model = answers["models"][number]
    stem = Path(answers["recording"]).stem + (f"-{folder_name(model['name'])}" if len(answers["models"]) > 1 else "")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{stem}.{form}" for form in ("csv", "json", "srt")]
        for file in files:
            file.write_text(write_rows(model["rows"], file.suffix[1:], stem), encoding="utf-8", newline="")
        files.append(draw_timeline(model["rows"], recording, Path(folder) / f"{stem}.png"))
        yield [gr.DownloadButton(value=str(file), visible=True) for file in files]
