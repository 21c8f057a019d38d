"""`m4ser export`: a trained model as an ONNX graph, in a folder that runs without torch."""

from collections.abc import Sequence
from pathlib import Path

from data_scripts.errors import UserError, run_command
from data_scripts.parsers import CommandParser


def main(arguments: Sequence[str]) -> int:
    """Write the folder; returns the exit status, see `run_command`."""
    parser = CommandParser(prog="m4ser export", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model, or its name on the Hub")
    parser.add_argument("--output_dir", required=True, type=Path, metavar="FOLDER", help="where to write; new or empty")
    parser.add_argument("--int8", action="store_true", help="store and multiply matrices in eight bits")
    options = parser.parse_args(arguments)
    return run_command(lambda: _export(options.model, options.output_dir, options.int8))


def _export(model: str, folder: Path, int8: bool) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: name a folder that is new")
    from modeling_m4ser import M4SERForEmotionClassification, M4SERProcessor  # late: --help needs none of it
    from modeling_m4ser.export_m4ser import export_onnx
    from modeling_m4ser.runtime_m4ser import GRAPH_FILE

    try:
        loaded = M4SERForEmotionClassification.from_pretrained(model), M4SERProcessor.from_pretrained(model)
        told = export_onnx(*loaded, folder, int8)
    except (ValueError, OSError, ImportError) as error:
        raise UserError(str(error)) from error
    rounded = f", {told['int8_deviation']:.3f} of a probability in eight bits" if int8 else ""
    print(f"{folder / GRAPH_FILE}: opset {told['opset']}, {told['megabytes']} MB")
    print(f"checked at lengths and batches that were not traced: within {told['deviation']:.1e} of torch{rounded}")
