"""`m4ser timeline`: who feels what, and when, in recordings of any length."""

import argparse
import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from data_scripts.errors import UserError, run_command
from data_scripts.parsers import CommandParser
from m4ser.runtimes import add_runtime, keep_torch_out, load_pipeline

#: format -> how its files end
FORMATS = {"json": ".json", "csv": ".csv", "srt": ".srt", "vtt": ".vtt", "rttm": ".rttm", "audacity": ".txt"}
_PLOTS = (".png", ".pdf", ".svg", ".html")


def main(arguments: Sequence[str]) -> int:
    """Write the timeline of each recording into the output folder."""
    options = parse_arguments(arguments)
    return run_command(lambda: _run(options))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command."""
    parser = CommandParser(prog="m4ser timeline", description=__doc__)
    parser.add_argument("calls", nargs="+", metavar="CALL", help="recordings: any format, any length")
    parser.add_argument("--model", required=True, help="folder or Hub name of a trained model")
    parser.add_argument("--asr", help="ASR model that writes the words, e.g. openai/whisper-small.en")
    segments = "silero (default), whisper, or a file: .srt .vtt .rttm .txt (Audacity)"
    parser.add_argument("--segments", default="silero", metavar="FILE", help=f"who speaks when: {segments}")
    parser.add_argument("--channel", type=_channel, help="channel to read, from 0, or `each`: one speaker a channel")
    parser.add_argument("--max_seconds", type=float, default=15.0, help="longer turns are split (default: 15)")
    parser.add_argument("--window", type=float, help="seconds: cut turns into overlapping windows instead")
    parser.add_argument("--hop", type=float, help="seconds between the starts of windows (default: the window)")
    parser.add_argument("--batch_size", type=int, default=16, help="turns at once (default: 16)")
    add_runtime(parser)
    parser.add_argument("--format", choices=FORMATS, default="json", help="of the file (default: json)")
    parser.add_argument("--plot", type=Path, help=f"draw it: a file that ends in {' '.join(_PLOTS)}")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of CALL.json, CALL.srt …")
    return parser.parse_args(arguments)


def _channel(value: str) -> int | str:
    if value != "each" and not value.isdecimal():
        raise argparse.ArgumentTypeError(f"must be `each` or a number from 0 on, not {value}")
    return value if value == "each" else int(value)


def _run(options: argparse.Namespace) -> None:
    files = {call: options.output_dir / (Path(call).stem + FORMATS[options.format]) for call in options.calls}
    if len(set(files.values())) < len(options.calls):
        raise UserError("two recordings of one name would be written to one file: run them one by one")
    if options.plot and (len(files) > 1 or options.plot.suffix not in _PLOTS):
        raise UserError(f"--plot draws one recording into a file that ends in {', '.join(_PLOTS)}, not {options.plot}")
    if missing := [call for call in files if not Path(call).is_file()]:
        folder = f"is a folder; name its recordings, {missing[0].rstrip('/')}/*.wav"
        raise UserError(f"{missing[0]}: {folder if Path(missing[0]).is_dir() else 'no such file; check the path'}")
    keep_torch_out(options.runtime)
    from modeling_m4ser import AudioError

    pipe = load_pipeline(options.model, options.runtime, options.device)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    names = ("asr", "segments", "channel", "max_seconds", "window", "hop", "batch_size")
    unread = []
    for call, file in files.items():
        try:
            rows = pipe.timeline(call, progress=True, **{name: getattr(options, name) for name in names})
        except AudioError as error:  # one broken recording does not keep the others from being heard
            unread.append(str(error))
            continue
        except (ValueError, ImportError) as error:
            raise UserError(error) from error
        file.write_text(write_rows(rows, options.format, Path(call).stem), encoding="utf-8", newline="")
        failed = [row for row in rows if row["error"]]
        print(
            f"{file}: {len(rows)} turns" + (f", {len(failed)} not classified: {failed[0]['error']}" if failed else "")
        )
        if options.plot:
            from m4ser.timeline_figure import draw_timeline

            print(draw_timeline(rows, call, options.plot))
    if unread:
        raise UserError(f"{len(unread)} of {len(files)} recordings could not be read: {'; '.join(unread)}")


def write_rows(rows: Sequence[dict[str, Any]], form: str, recording: str) -> str:
    """Return the rows of a timeline as a file of a format of `FORMATS`; in CSV, each label has a column."""
    from modeling_m4ser.segments_m4ser import write_segments

    if form == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    if form != "csv":
        return write_segments(rows, form, recording)
    labels = list(dict.fromkeys(label for row in rows for label in row["scores"]))
    written = StringIO()
    columns = [*("start", "end", "speaker", "channel", "text", "label"), *(f"probability_{label}" for label in labels)]
    table = csv.DictWriter(written, [*columns, "confidence", "decision", "ood_score", "error"], extrasaction="ignore")
    table.writeheader()
    table.writerows(row | {f"probability_{label}": score for label, score in row["scores"].items()} for row in rows)
    return written.getvalue()
