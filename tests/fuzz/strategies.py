"""Random recordings, rows and tables as people bring them, drawn by name so that a failing example can be read."""

import importlib.util
import io
import math
import os
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from modeling_m4ser.rows_m4ser import COLUMN_NAMES
from tests.helpers import ROOT
from tests.modeling_m4ser.test_audio import RATE, encoded

ROOMS = ("modeling_m4ser", "data_scripts", "trainer")
NOISE = np.random.default_rng(0).integers(-9000, 9000, (1600, 2)).astype(np.int16)


WAV, FLAC = encoded(NOISE[:, 0]), encoded(NOISE[:, 1], form="FLAC")
GOOD_FILES = {"a.wav": WAV, "é [1].wav": encoded(NOISE), "sub/d?.flac": FLAC}
BROKEN_FILES = {
    "empty": b"",
    "text": b"404: Not Found",
    "cut.wav": WAV[:999],
    "two\nlines": WAV[:44],
    "zeros": bytes(999),
}
BROKEN_FILES |= {"cut.flac": FLAC[:999], "noise.mp3": NOISE.tobytes(), "a.zip": b"PK\3\4" + WAV}
FORMS = {
    **{"Path": Path, "str": str, "address": Path.as_uri, "bytes": Path.read_bytes},
    "bytes dictionary": lambda path: {"bytes": path.read_bytes(), "path": None},
    "path dictionary": lambda path: {"bytes": None, "path": str(path)},
}
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "?", "O", "U8", "M8[s]")
SHAPES = ((1600,), (800, 2), (2, 800), (1, 1, 1600), (), (0,), (1,), (40, 40))
CONTAINERS = {"array": np.asarray, "list": np.ndarray.tolist, "tensor": torch.as_tensor, "Series": pd.Series}
CONTAINERS |= {
    "sparse": lambda array: torch.as_tensor(array).to_sparse(),
    "without data": lambda array: torch.as_tensor(array, device="meta"),
    "masked": lambda array: np.ma.array(array, mask=array == array.max(initial=0)),
}
#: Nothing, or no such thing as is wanted.
ODD = (
    None,
    "",
    "no",
    0,
    -1,
    1.5,
    math.nan,
    math.inf,
    True,
    1j,
    b"1",
    [1],
    {},
    {1},
    pd.NA,
    object(),
    "\ud83d",
    np.ma.masked,
)
RATES = (RATE, 8000.0, str(RATE), np.int32(RATE), torch.tensor(RATE), torch.tensor([8000]), "16 kHz", 44100, 16, 10**9)
CHANNELS = (0, 1, "1", " 0 ", 1.0, np.int64(1), torch.tensor(1), 7, "left", "²", 2**70)
TEXTS = ("so happy", "", "SAD [LAUGHTER]", "我很高兴", "\x00", "word " * 300, np.str_("not"), 42, "nan", ["so"])
TEXTS += ("\u202eשלום", "👩\u200d👧", "\udfff\ud83d", "\u0301")
TIMES = (0, 0.0, "0,01", "0:00.05", 50, "99", 0.1, 800, timedelta(seconds=0.05), np.float32(0.02), torch.tensor(40))
VALUES = {
    "hypothesis": TEXTS,
    "sampling_rate": RATES,
    "channel": CHANNELS,
    "transcript": TEXTS,
    "emotion": ("angry", 2),
    "start": TIMES,
    "end": TIMES,
    "duration": TIMES,
}
WAYS = (
    str,
    str.title,
    "{}\n".format,
    lambda name: name.replace("_", " ").upper(),
    lambda name: f" {name.replace('_', '-')}",
)


def examples(usual: int) -> settings:
    """Always the same `usual` examples, or as many new ones as M4SER_FUZZ_EXAMPLES says; told as they were drawn."""
    asked = os.environ.get("M4SER_FUZZ_EXAMPLES")
    number = int(asked) if asked else usual
    return settings(
        **{"max_examples": number, "derandomize": not asked, "phases": (Phase.generate,)},
        **{"database": None, "suppress_health_check": list(HealthCheck)},
    )


def outcome(call) -> tuple[Any, str | None]:
    """What a call gives, and None; or None, and the line that refuses it. Any other error is a fault, and goes on."""
    try:
        return call(), None
    except (ValueError, TypeError, FileNotFoundError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        is_ours = any(Path(place.filename).is_relative_to(ROOT / room) for room in ROOMS)
        deliberate = is_ours and (place.line or "").startswith("raise")
        if not deliberate or "\n" in str(error):
            raise
        return None, str(error)


def names(role: str) -> st.SearchStrategy[str]:
    """The names of a role, in the usual ways of writing them."""
    known = [role, *(name for group in COLUMN_NAMES[role] for name in group)]
    return st.builds(lambda name, way: way(name), st.sampled_from(known), st.sampled_from(WAYS))


@st.composite
def files(draw, folder: Path, forms=FORMS):
    """A file in some form; one that is not there by its name."""
    path = folder / draw(st.sampled_from([*GOOD_FILES, *GOOD_FILES, *BROKEN_FILES, "gone", "sub"]))
    form = forms[draw(st.sampled_from(list(forms)))]
    return form(path) if path.is_file() else str(path)


@st.composite
def samples(draw):
    """Numbers, or what is taken for them, of any type, shape and level; in an array where another form has no such."""
    kind, shape, contain = (draw(st.sampled_from(list(each))) for each in (TYPES, SHAPES, CONTAINERS))
    level = draw(st.sampled_from((0.5, 0, 100, 32767, math.nan, math.inf)))
    with np.errstate(all="ignore"):
        array = np.asarray(level * np.resize(NOISE[:, 0] / 9000, shape), "f8")
        array = array.astype("i8").astype(kind) if kind == "M8[s]" else array.astype(kind)
    try:
        return CONTAINERS[contain](array)
    except (TypeError, ValueError, RuntimeError):
        return array


@st.composite
def inputs(draw, folder: Path):
    """What somebody may give to the pipeline."""
    streams = {"file": lambda path: io.BytesIO(path.read_bytes())}
    array, odd = draw(st.one_of(samples(), st.sampled_from(ODD))), st.sampled_from(ODD)
    audio = draw(st.one_of(files(folder, FORMS | streams), st.just(array), odd))
    row = {draw(names("audio")): audio}
    for role, values in VALUES.items():
        if role == "hypothesis" or draw(st.booleans()):
            row[draw(names(role))] = draw(st.one_of(st.sampled_from(values), st.sampled_from(values), odd))
    text, rate = draw(st.sampled_from(TEXTS)), draw(st.sampled_from(RATES))
    whole = {"array": array, "sampling_rate": rate}
    return draw(st.sampled_from([row, row, {"audio": whole, "text": text}, (audio, text), audio, (audio, text, 0)]))


# Tables

TABLE_KINDS = ["csv", "tsv", "json", "jsonl", "parquet", *(["xlsx"] if importlib.util.find_spec("openpyxl") else [])]
CLIPS = {**dict.fromkeys(("one.wav", "TWO.WAV", "é 3.wav", "6[a].wav", "8 .wav"), "WAV"), "sub/five.ogg": "OGG"}
CLIPS |= dict.fromkeys(("sub/4.flac", "seven.flac"), "FLAC")
PATHS = (str, str, str, lambda path: f"./{path}", lambda path: path.replace("/", "\\"), str.upper, str.lower)
PATHS += (lambda path: f"/elsewhere/{path}", lambda path: f" {path} ", lambda path: path.replace(".wav", ".mp3"))
CELL_TEXTS = ("so happy", "not, so; sad", 'she said "no"', "我很高兴", "é\u0301", "None", "nan", "a\nb", "word " * 90)
#: What the cells of a column may hold: the usual things, and what is seldom among them.
CELLS = {
    "emotion": (("happy", "sad", "Happy", "SAD "), ("", None, "N/A", "angry", 1, 2.0, True, "happy;sad")),
    "hypothesis": (CELL_TEXTS, (None, "")),
    "transcript": ((*CELL_TEXTS, None), ("",)),
    "speaker": (("ann", "Ann", "bo", 7, "07"), (None, "", "n/a", 1.0)),
    "session": (("1", 2, None), ("Ses01",)),
    "split": (("train", "dev", "Test"), ("training", "VAL", None, "holdout")),
    "channel": ((0, "0", 0.0, None), (1, 7, "left", -1)),
    "start": ((0, "0,01", "0:00.02", 0.03), (None, "", 9, "x", -1, math.nan)),
    "end": ((0.08, "0,09", "0:00.1", None), (0, 50, "nan")),
    "duration": ((0.05, 0.08), (None, "long", 0)),
    "asr_model": (("whisper", None), ("",)),
    "remark": (("x", None), (1,)),
}


@st.composite
def tables(draw):
    """Rows of recordings, and their names."""
    rarely = st.sampled_from([False] * 15 + [True])
    bad = ["gone.wav", *BROKEN_FILES] if draw(st.booleans()) else []
    files = draw(st.lists(st.sampled_from([*CLIPS, *bad]), min_size=3, max_size=9, unique=True))
    columns = {"audio": [draw(st.sampled_from(PATHS))(name) if draw(rarely) else name for name in files]}
    if draw(st.booleans()):
        columns["id"] = [f"u{number}" for number in range(len(files))]
    for role, (usual, odd) in CELLS.items():
        if role in ("emotion", "hypothesis") or draw(st.integers(0, 3)) == 0:
            odd = odd if draw(st.booleans()) else usual
            columns[role] = [draw(st.sampled_from(odd if draw(rarely) else usual)) for _ in files]
    known = {role: draw(names(role)) if role != "remark" else role for role in columns}
    return pd.DataFrame({known[role]: pd.Series(cells, dtype=object) for role, cells in columns.items()}), files, known


def write_table(frame: pd.DataFrame, path: Path, separator: str, encoding: str, orient: str) -> None:
    """Write a table as its suffix says; cells that its kind cannot hold beside each other as text."""
    match path.suffix.lower():
        case ".csv" | ".tsv":
            path.write_bytes(frame.to_csv(index=False, sep=separator).encode(encoding, errors="replace"))
        case ".json" | ".jsonl":
            lines = path.suffix == ".jsonl"
            frame.to_json(path, orient="records" if lines else orient, lines=lines, force_ascii=False)
        case ".xlsx":
            frame.to_excel(path, index=False)
        case ".parquet":
            try:
                frame.to_parquet(path)
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
                frame.map(lambda cell: None if cell is None else str(cell)).to_parquet(path)
