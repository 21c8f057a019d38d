"""`m4ser serve`: emotions over HTTP, for clients of Hugging Face and OpenAI."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

from data_scripts.errors import UserError, run_command
from data_scripts.parsers import CommandParser
from m4ser.runtimes import add_runtime, keep_torch_out
from m4ser.serve import CPU_THREADS, Settings

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def main(arguments: Sequence[str]) -> int:
    """Serve a model until the process is told to stop."""
    options = parse_arguments(arguments)
    return run_command(lambda: _run(options))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command."""
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = CommandParser(prog="m4ser serve", description=__doc__, formatter_class=shown)
    parser.add_argument("--model", required=True, help="folder or Hub name of a trained model")
    parser.add_argument("--asr", help="ASR model that writes missing words, e.g. openai/whisper-small.en")
    add_runtime(parser)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: other machines may ask too")
    parser.add_argument("--port", type=int, default=8000, help="where it listens")
    for name, kind, what in (
        ("batch_size", int, "clips answered at once"),
        ("batch_ms", float, "how many ms a clip waits for others that are on their way"),
        ("max_mb", float, "size of a body"),
        ("max_seconds", float, "length of a recording"),
        ("max_requests", int, "requests that are read or answered at once"),
        ("timeout", float, "seconds for an answer"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Settings, name), help=what)
    parser.add_argument("--segments", choices=("silero", "whisper"), default="silero", help="what finds the turns")
    parser.add_argument("--cors_origins", nargs="+", default=(), metavar="URL", help="pages whose scripts may ask")
    parser.epilog = "M4SER_TOKEN=… in the environment: clients must send it, as Authorization: Bearer …"
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> None:
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UserError(f"m4ser serve needs {', '.join(missing)}: pip install -e '.[serve]'")
    keep_torch_out(options.runtime)
    options.token = os.environ.get("M4SER_TOKEN")
    if options.token is not None and not (options.token.strip() and options.token.isascii()):
        raise UserError("M4SER_TOKEN is empty, or has other than ASCII characters: choose another, or unset it")
    import uvicorn

    from m4ser.serve.app import create_app

    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, lambda: _load(options), fail)
    server = uvicorn.Server(uvicorn.Config(app, options.host, options.port, access_log=False, server_header=False))
    server.run()
    if failures:
        raise UserError(f"{options.model}: {failures[0]}") from failures[0]


def _load(options: argparse.Namespace) -> Any:
    from m4ser.runtimes import load_pipeline

    threads = {"num_threads": CPU_THREADS} if options.runtime == "onnx" else {}
    return load_pipeline(options.model, options.runtime, options.device, asr=options.asr, **threads)
