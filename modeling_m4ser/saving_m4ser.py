"""What lies beside the weights of a saved model: this code, and what tells of the model."""

import re
import shutil
from pathlib import Path

from .handler_m4ser import REQUIREMENTS

#: What tells of a model and lies beside its weights: its card, the results that this states, and their figures.
_CARD_FILES = ("*.md", "results.json", "*.png")
#: The processor of a model that is saved without one: its parts as the tokenizers of all kinds name them.
_PROCESSOR_FILES = ("*processor_config.json", "*token*.json", "vocab*", "merges.txt", "*.model")
# Where a card says what to load.
_REPOSITORY = re.compile(r'((?:model=|from_pretrained\()")[^"]*(?=", trust_remote_code=True)')


def add_code_and_card(folder: Path, source: Path | None, repository: str | None = None) -> None:
    """Write the code into a model's folder, and the card, results, figures and processor that lie in `source`.

    Args:
        folder: has the weights; a processor that is there stays.
        source: where the model was loaded from; None where no card tells of it.
        repository: the name on the Hub that the card shall load it by.
    """
    for module in sorted(Path(__file__).parent.glob("*_m4ser.py")):
        shutil.copyfile(module, folder / module.name)
    shutil.copyfile(folder / "handler_m4ser.py", folder / "handler.py")
    (folder / "requirements.txt").write_text("\n".join([*REQUIREMENTS, ""]), encoding="utf-8")
    if source is None or source.resolve() == folder.resolve():
        return
    told = [file for pattern in _CARD_FILES for file in source.glob(pattern)]
    read = [file for pattern in _PROCESSOR_FILES for file in source.glob(pattern)]
    for file in [*told, *(file for file in read if not (folder / file.name).exists())]:
        shutil.copyfile(file, folder / file.name)
    if repository is not None and (source / "README.md").is_file():
        card = (source / "README.md").read_text(encoding="utf-8")
        (folder / "README.md").write_text(_REPOSITORY.sub(rf"\g<1>{repository}", card), encoding="utf-8")
