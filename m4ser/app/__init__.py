"""`m4ser app`: a page in the browser that hears, reads and shows emotions, on this machine alone.

Record or open a recording. What is longer than half a minute is answered turn by turn.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from data_scripts.errors import UserError, run_command
from data_scripts.parsers import CommandParser

_SAMPLES = Path(__file__).resolve().parents[2] / "examples" / "demo" / "sample_corpus"
_LOCAL = ("127.0.0.1", "localhost", "::1")


def main(arguments: Sequence[str]) -> int:
    """Show the page until it is interrupted."""
    options = parse_arguments(arguments)
    return run_command(lambda: launch(**vars(options)))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command."""
    parser = CommandParser(prog="m4ser app", description=__doc__)
    parser.add_argument("--model", required=True, help="folder or Hub name of a trained model")
    parser.add_argument("--model2", help="another one, shown beside it")
    parser.add_argument("--asr", help="ASR model that writes the transcript, e.g. openai/whisper-small.en")
    samples = "folder of recordings to click; with a manifest.csv, its words too (default: those of the demo)"
    parser.add_argument("--examples", type=Path, metavar="FOLDER", help=samples)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: a GPU where there is one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine's own)")
    parser.add_argument("--port", type=int, help="default: 7860, or the next that is free")
    parser.add_argument("--ssl_certfile", type=Path, metavar="FILE", help="certificate: serve https")
    parser.add_argument("--ssl_keyfile", type=Path, metavar="FILE", help="its key")
    parser.add_argument("--mcp_server", action="store_true", help="also answer MCP clients, at /gradio_api/mcp")
    return parser.parse_args(arguments)


def launch(
    model: str,
    model2: str | None = None,
    asr: str | None = None,
    examples: Path | None = None,
    device: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    ssl_certfile: Path | None = None,
    ssl_keyfile: Path | None = None,
    mcp_server: bool = False,
) -> None:
    """Load the models and show the page until it is interrupted; the arguments are the command's options.

    Raises:
        UserError: a package is missing, the files of the certificate are, or a model cannot be loaded.
    """
    files = [ssl_certfile, ssl_keyfile]
    if (ssl_certfile is None) != (ssl_keyfile is None):
        raise UserError("--ssl_certfile and --ssl_keyfile go together: pass both or none")
    if missing := [file for file in [*files, examples] if file and not file.exists()]:
        raise UserError(f"{missing[0]}: no such file or folder; check the path")
    if mcp_server and find_spec("mcp") is None:
        raise UserError("--mcp_server needs the package mcp: pip install 'gradio[mcp]'")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"m4ser app needs Gradio ({error}): pip install 'm4ser[app]'") from error
    from m4ser.app.listener import Listener
    from m4ser.app.page import LOOK, build_page

    page = build_page(Listener([model] if model2 is None else [model, model2], asr, device), examples or _SAMPLES)
    if host not in _LOCAL and ssl_certfile is None:
        print(
            "Browsers give the microphone to https and to this machine alone: others can only open recordings. Pass "
            "--ssl_certfile and --ssl_keyfile, or put an https proxy in front.",
            file=sys.stderr,
        )
    try:
        page.launch(
            server_name=host,
            server_port=port,
            ssl_certfile=ssl_certfile and str(ssl_certfile),
            ssl_keyfile=ssl_keyfile and str(ssl_keyfile),
            ssl_verify=False,  # of the page's own first request, to a certificate that may be of its own making
            mcp_server=mcp_server,
            share=False,
            max_file_size="2gb",
            **LOOK,
        )
    except (OSError, gradio.Error) as error:  # a port that is taken
        raise UserError(str(error)) from error
