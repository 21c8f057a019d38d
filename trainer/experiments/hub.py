"""A finished run on the Hub: the model with its code, processor, card, results and figures, in one commit."""

import time
from pathlib import Path
from typing import cast

from transformers import Trainer

from modeling_m4ser import M4SERForEmotionClassification
from trainer.arguments import ExperimentArguments
from trainer.errors import ExperimentError
from trainer.experiments.run_folder import load_results

# Seconds between the attempts while the Hub is busy: its client asks again for uploads, but not for all that it asks.
_WAITS = (1, 5, 30, 60)


def push_run(
    folder: str | Path,
    repository: str,
    *,
    full: bool = False,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Publish the model of a finished run; nothing else of the folder that tells of people or of this machine.

    Args:
        folder: the run's.
        repository: "you/your-model"; it is made where it does not exist.
        full: whether error detection, error correction and the discriminator go, too. Only `return_corrections` and
            further training use them.
        private: whether a new repository is; by default as its owner's new ones are.
        revision: the branch to push to.
        token: of the Hub; by default that of `hf auth login`.

    Returns:
        The commit's address.

    Raises:
        ExperimentError: the folder is no finished run; or the Hub refuses it or cannot be reached. Nothing is published
            then, and what was uploaded is not uploaded again.
    """
    recognizes_emotions = "emotions" in load_results(folder)
    model = M4SERForEmotionClassification.from_pretrained(folder, local_files_only=True)
    if recognizes_emotions and not full:
        model.drop_auxiliary_heads()
    for wait in (*_WAITS, None):
        try:
            return str(model.push_to_hub(repository, private=private, revision=revision, token=token))
        # Everything: refusals and lost connections have no class in common.
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", 0)
            if wait is None or not (status == 429 or status >= 500):
                reason, line = " ".join(str(error).split()), push_line(folder, repository, full, private)
                text = f"{folder} is finished, and not pushed now: {line} (it failed: {reason})"
                raise ExperimentError(text) from error
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def push_trained(folder: str | Path, trainer: Trainer) -> None:
    """Publish the run of a trainer as its [`ExperimentArguments`] say, see `push_run`."""
    args = cast(ExperimentArguments, trainer.args)
    choice = {"full": args.hub_all_heads, "revision": args.hub_revision, "token": args.hub_token}
    push_run(folder, str(trainer.hub_model_id), **choice)


def push_line(folder: str | Path, repository: str, full: bool = False, private: bool | None = None) -> str:
    """Return the command that publishes a run."""
    return f"m4ser push {folder} {repository}{' --full' * full}{' --private' * bool(private)}"
