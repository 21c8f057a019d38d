r"""IEMOCAP as the paper uses it: 4 emotions, leave one session out, ASR text (Tables II and IV).

    python examples/run_iemocap.py --config examples/configs/iemocap_hubert_base.yaml \
        --data_dir IEMOCAP_full_release --output_dir runs/iemocap [--folds 1]

`--data_dir` is the official release, `--prepared_dir` a folder written by `python -m data_scripts.prepare`.
The best epoch is chosen on a speaker held out of the training sessions; the test session is used once, at the end.

As others use it: ten folds with `--protocol speaker`; six classes (7,380 utterances) with `--emotions neutral
frustrated angry sad happy excited`; four without the excited utterances (4,490) with `--merge_excited false`; one kind
of dialog with `--turns improvised` or `scripted`.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_scripts.corpora.iemocap import TURNS, drop_excited, select_turns
from data_scripts.corpora.options import option_help
from data_scripts.spellings import spelling_key
from trainer import experiments
from trainer.errors import ExperimentError
from trainer.experiments.arguments import CorpusArguments, ModelArguments, RunArguments
from trainer.experiments.cli import run_script

if TYPE_CHECKING:
    from datasets import DatasetDict

    from trainer import ExperimentArguments
    from trainer.experiments.checks import Folds


PROTOCOLS = ("session", "speaker")


@dataclass
class IemocapArguments(CorpusArguments):
    """Where IEMOCAP lies and how it is divided."""

    corpus: str = field(default="iemocap", metadata=option_help("Name of the corpus.", "NAME"))
    protocol: str = field(
        default="session",
        metadata={"help": "'session' leaves one of five sessions out, 'speaker' one of ten speakers."},
    )
    validation: str | None = field(
        default=None,
        metadata={
            "help": "'speaker' holds out one speaker of the sessions that are not tested (the default by session), "
            "'partner' the other speaker of the tested session (the default by speaker, and only there), 0.1 a tenth "
            "of the utterances that are not tested."
        },
    )
    turns: str = field(default="all", metadata={"help": "Dialogs to use: 'all', 'improvised' or 'scripted'."})
    merge_excited: bool = field(
        default=True,
        metadata={"help": "Count excited as happy; false drops it. Where --emotions names excited it stays a class."},
    )

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("protocol", PROTOCOLS), ("turns", ("all", *TURNS))):
            if getattr(self, name) not in known:
                raise ExperimentError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        if not self.merge_excited and "excited" in map(spelling_key, self.label_map or ()):
            raise ExperimentError("label_map says what excited becomes: leave --merge_excited out.")
        if self.validation == "partner" and self.protocol != "speaker":
            raise ExperimentError(
                "validation 'partner' needs --protocol speaker: by session, both speakers are tested."
            )
        if self.validation not in (None, "speaker", "partner") and not re.fullmatch(r"0?\.0*[1-9]\d*", self.validation):
            raise ExperimentError(
                "validation must be 'speaker' or a share between 0 and 1 such as 0.1 (with --protocol speaker also "
                f"'partner'), not {self.validation!r}."
            )

    @property
    def drops_excited(self) -> bool:
        """Whether excited utterances are left out, rather than counted as happy or kept as a class."""
        return not self.merge_excited and "excited" not in (self.emotions or ())


def selection(corpus: IemocapArguments) -> IemocapArguments:
    """Return what is prepared: the wanted classes."""
    if not corpus.drops_excited or corpus.prepared_dir is not None:
        return corpus
    # A class of its own that nobody asks for: its utterances are left out, as the report says.
    label_map = {**corpus.mapping, "excited": "excited"}
    classes, _ = corpus.record.classes(label_map, corpus.emotions)
    classes = [name for name in classes if name != "excited"]
    return replace(corpus, emotions=classes, label_map=label_map, merge_excited=True)


def choose_rows(dataset: "DatasetDict", corpus: IemocapArguments) -> "DatasetDict":
    """Return the utterances of the wanted turns, of a prepared folder without those that are not to count."""
    if corpus.drops_excited and corpus.prepared_dir is not None:
        dataset = drop_excited(dataset)
    return dataset if corpus.turns == "all" else select_turns(dataset, corpus.turns)


def describe(protocol: str, validation: str | float, turns: str, drops_excited: bool) -> str:
    """Say what is tested and validated on, and what was left out, for the model cards."""
    sessions = "sessions" if protocol == "session" else "speakers"
    held_out = {
        ("session", "speaker"): "one speaker of the training sessions",
        ("speaker", "speaker"): "one speaker of the other sessions",
        ("speaker", "partner"): "the other speaker of the same session",
    }.get((protocol, validation)) or f"{validation:.0%} of the training {sessions}"
    sentence = f"IEMOCAP, leave one {protocol} out; validation on {held_out}, never the test {protocol}."
    if turns != "all":
        sentence += f" Only {turns} dialogs."
    return sentence + (" Excited utterances are left out." if drops_excited else "")


def main(corpus: IemocapArguments, model: ModelArguments, runs: RunArguments, args: "ExperimentArguments") -> None:
    """Run one fold per session or speaker."""
    from data_scripts.splits import leave_one_session_out, leave_one_speaker_out  # late: --help needs no datasets

    validation = corpus.validation or ("speaker" if corpus.protocol == "session" else "partner")
    validation = validation if validation in ("speaker", "partner") else float(validation)
    leave_one_out = leave_one_session_out if corpus.protocol == "session" else leave_one_speaker_out

    def divide(dataset: "DatasetDict") -> "Folds":
        return runs.choose(leave_one_out(dataset, validation, runs.split_seed), dataset)

    wanted = selection(corpus)
    experiments.check_experiment(wanted, [model], runs, args, lambda dataset: divide(choose_rows(dataset, corpus)))
    dataset = choose_rows(experiments.prepare_corpus(wanted, Path(args.output_dir) / "corpus", [model]), corpus)
    description = describe(corpus.protocol, validation, corpus.turns, corpus.drops_excited)
    if args.should_log and (corpus.drops_excited or corpus.turns != "all"):
        part = next(iter(dataset.values()))
        emotion = part.features["emotion"]
        counts = Counter(emotion.int2str(part["emotion"][:]))
        shares = ", ".join(f"{name} {counts[name]}" for name in emotion.names)
        print(f"{description} {counts.total()} utterances: {shares}", flush=True)
    experiments.run_folds(divide(dataset), corpus, model, runs, args, description)


if __name__ == "__main__":
    run_script(main, IemocapArguments, ModelArguments, RunArguments)
