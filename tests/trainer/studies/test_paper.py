"""The paper's numbers, against the text of the paper where it is at hand."""

import re

import pytest

from data_scripts.corpora.report import PreparationReport
from trainer.evaluation.significance import METRICS as KNOWN
from trainer.experiments.ablations import ABLATIONS
from trainer.studies.paper import (
    ABLATION_TABLE,
    CONSISTENCY_TABLE,
    COST_TABLE,
    METRICS,
    TRANSFER_TABLE,
    stand_in_reason,
)

#: The words of Table IV -> the rows' names here.
WORDS = {
    "M⁴SER (Full)": "M4SER",
    "only Speech Modality": "only speech",
    "only Text Modality": "only text",
    "Speech & Text + Concat": "speech & text + concat",
    "w/o Modality-Specific (MSR)": "w/o MSR",
    "w/o Modality-Invariant (MIR)": "w/o MIR",
    "w/o ASR Error Detection": "w/o AED",
    "w/o ASR Error Correction": "w/o AEC",
}


NUMBERS = r"\t([\d.]+)\t([\d.]+)\t([\d.]+)\t([\d.]+)$"


@pytest.fixture(scope="module")
def printed(shared_dir):
    """The paper's text from a mark on, or between two."""
    text = (shared_dir / "paper" / "m4ser.txt").read_text(encoding="utf-8")
    return lambda start, end=None: text[text.index(start) : text.index(end) if end else None]


def test_table_iv_is_as_printed(printed):
    table = printed("\nTABLE IV\n", "B. Ablation Study")
    rows = re.findall(rf"^(?:\(\d\) )?(.+?){NUMBERS}", table, re.MULTILINE)
    assert len(rows) == 13
    for words, *numbers in rows:
        name, (wa, ua, accuracy, f1) = WORDS.get(words, words), map(float, numbers)
        assert ABLATION_TABLE["iemocap"][name] == {"wa": wa, "ua": ua}
        assert ABLATION_TABLE["meld"][name] == {"accuracy": accuracy, "weighted_f1": f1}


def test_tables_viii_and_ix_are_as_printed(printed):
    names = {
        "Baseline (HuBERT + BERT)": "speech & text + concat",
        "+ MSR & MIR": "+ MSR & MIR",
        "+ GAN & LCL": "w/o AED & AEC",
        "+ AED & AEC (M^4SER)": "M4SER",
    }
    eighth = re.findall(rf"^(.+?){NUMBERS}", printed("\nTABLE VIII\n", "Table VIII presents"), re.MULTILINE)
    ninth = re.findall(rf"^(?:M\^4SER)?\t(\d+){NUMBERS}", printed("\nM^4SER\t5\t"), re.MULTILINE)
    rows = [(0, names[words], *numbers) for words, *numbers in eighth if words in names]
    rows += [(int(shots), "M4SER", *numbers) for shots, *numbers in ninth]
    there, back = {}, {}
    for shots, name, *numbers in rows:
        accuracy, f1, wa, ua = map(float, numbers)
        there.setdefault(shots, {})[name] = {"accuracy": accuracy, "weighted_f1": f1}
        back.setdefault(shots, {})[name] = {"wa": wa, "ua": ua}
    assert {("iemocap", "meld"): there, ("meld", "iemocap"): back} == TRANSFER_TABLE


def test_table_v_is_as_printed(printed):
    """Both parts print their columns one after the other: all parameters, all hours, all times, all WA, all UA."""
    table, names = printed("\nTABLE V\n", "C. Sensitivity Analysis"), list(COST_TABLE)
    for line, rows in (("Single-modal", names[:2]), ("Multi-modal", names[2:])):
        (cells,) = re.findall(rf"^{line}\t.*$", table, re.MULTILINE)
        columns = [[COST_TABLE[row][key] for row in rows] for key in ("parameters", "train_hours")]
        columns += [[COST_TABLE[row][key] for key in ("inference_ms", "inference_ms_std")] for row in rows]
        columns += [[ABLATION_TABLE["iemocap"][row][key] for row in rows] for key in ("wa", "ua")]
        assert list(map(float, re.findall(r"\d+\.\d+", cells))) == [value for column in columns for value in column]
    assert set(names) <= set(ABLATIONS)


def test_table_vii_is_as_printed(printed):
    numbers = printed("\nDTW ↓\t").split("\n")[1].split("\t")[1:]
    given = [value for example in CONSISTENCY_TABLE.values() for value in example.values()]
    assert list(map(float, numbers)) == given


def test_every_row_that_the_paper_has_is_there():
    assert set(ABLATION_TABLE["iemocap"]) == {*ABLATIONS, "M4SER, human text"}
    assert ABLATION_TABLE["iemocap"]["M4SER, human text"] == {"wa": 78.4, "ua": 79.9}  # Table VI
    assert set(ABLATION_TABLE["meld"]) == set(ABLATIONS) - {"+ MSR & MIR"}
    assert ABLATION_TABLE["iemocap"]["+ MSR & MIR"] == {"wa": 76.6, "ua": 77.4}  # Table V
    assert ABLATION_TABLE["meld"]["w/o GAN & LCL"] == {"accuracy": 65.5, "weighted_f1": 64.1}
    for corpus, rows in ABLATION_TABLE.items():
        for numbers in rows.values():
            assert set(numbers) == set(METRICS[corpus].values()) <= set(KNOWN)


@pytest.mark.parametrize(
    ("corpus", "utterances", "report", "other"),
    [
        ("iemocap", 5531, "missing", False),
        ("meld", 6854, "missing", True),
        # A report says what was found before anything was selected.
        ("meld", 13708, "9000 of its recordings are synthetic", True),
        ("iemocap", 4490, "", False),
        ("ravdess", 3, None, False),
        # One of an earlier version does not: the size decides.
        ("iemocap", 5531, None, False),
        ("iemocap", 270, None, True),
        ("meld", 13571, None, False),
        ("meld", 13570, None, True),
        ("meld", 2699, None, True),
    ],
)
def test_a_stand_in_is_told_from_the_corpus_of_its_name(tmp_path, corpus, utterances, report, other):
    if report != "missing":
        PreparationReport(corpus, stand_in=report).save(tmp_path / "report.json")
    assert bool(stand_in_reason(corpus, utterances, tmp_path)) is other
