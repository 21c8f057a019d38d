"""From one corpus to another, from the command to the tables."""

import json

import pytest
from datasets import DatasetDict

from data_scripts.schema import save_prepared
from tests.helpers.corpus import tiny_corpus
from tests.helpers.experiments import planned_inputs, tiny_options
from tests.helpers.process import run_example_here
from tests.helpers.tiny import EMOTIONS
from trainer.experiments.run_folder import load_results


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two rows, no shots and two, one seed, two steps each."""
    folder = tmp_path_factory.mktemp("transfer")
    save_prepared(DatasetDict(train=tiny_corpus(16)), folder / "acted")
    save_prepared(DatasetDict(train=tiny_corpus(40, seed=1), test=tiny_corpus(20, seed=2)), folder / "series")
    arguments = ["--source_dir", folder / "acted", "--target_dir", folder / "series", *tiny_options(folder)]
    arguments += ["--label_map", f"{EMOTIONS[0]}={EMOTIONS[1]}", "--shots", 2, 0]
    arguments += ["--rows", "M4SER", "speech & text + concat"]
    run_example_here("run_cross_corpus.py", *arguments)
    return folder / "out", arguments


def test_each_number_of_shots_is_trained_and_all_are_one_table(finished):
    out, _ = finished
    runs = {path.parent.relative_to(out).as_posix(): load_results(path.parent) for path in out.rglob("results.json")}
    rows = ("M4SER", "speech_text_concat")
    names = {0: "acted_to_series", 2: "acted_to_series_2_shots"}
    assert set(runs) == {f"shots{k}/{row}/{names[k]}/seed42" for k in names for row in rows}
    for name, run in runs.items():
        assert run["emotions"] == list(EMOTIONS[1:])
        assert run["split"]["train"]["utterances"] == 16 + 3 * int(name[5])
    table = json.loads((out / "transfer.json").read_text(encoding="utf-8"))
    asked = [f"{row}, {k} shots" for k in (0, 2) for row in ("M4SER", "speech & text + concat")]
    assert [row["row"] for row in table["rows"]] == asked
    assert table["heading"] == "# From acted to series: tested on 70 % of series"


@pytest.mark.parametrize(
    ("changes", "message"),
    [(["--folds", 1], "leave folds and protocol out"), (["--shots", -1], "shots must be at least 0")],
)
def test_what_cannot_be_is_told(finished, changes, message, capsys):
    _, arguments = finished
    run_example_here("run_cross_corpus.py", *arguments, *changes, status=2)
    assert message in capsys.readouterr().err


def test_the_division_follows_its_own_seed_and_the_label_map_both_corpora(finished, capsys):
    _, arguments = finished
    first, again, other = (
        {
            label: [data[split]["id"][:] for data, _ in inputs.folds.folds.values() for split in data]
            for label, inputs in planned_inputs("run_cross_corpus.py", *arguments, *changes).items()
        }
        for changes in ([], ["--seed", 1], ["--split_seed", 1])
    )
    assert list(first) == ["0 shots", "2 shots"]
    assert first == again
    assert all(first[label] != other[label] for label in first)
    names = [f"{emotion}=new" for emotion in EMOTIONS[2:]]
    renamed = planned_inputs("run_cross_corpus.py", *arguments, "--label_map", *names)
    assert all(inputs.emotions == [*EMOTIONS[:2], "new"] for inputs in renamed.values())
    run_example_here("run_cross_corpus.py", *arguments, "--label_map", "hapy=new", status=2)
    assert "label_map names hapy (did you mean happy?), which acted with " in capsys.readouterr().err
