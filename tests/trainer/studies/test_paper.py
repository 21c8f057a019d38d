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


def test_table_iv_is_as_printed(shared_dir):
    text = (shared_dir / "paper" / "m4ser.txt").read_text(encoding="utf-8")
    table = text[text.index("\nTABLE IV\n") : text.index("B. Ablation Study")]
    rows = re.findall(r"^(?:\(\d\) )?(.+?)\t([\d.]+)\t([\d.]+)\t([\d.]+)\t([\d.]+)$", table, re.MULTILINE)
    assert len(rows) == 13
    for words, *numbers in rows:
        name, (wa, ua, accuracy, f1) = WORDS.get(words, words), map(float, numbers)
        assert ABLATION_TABLE["iemocap"][name] == {"wa": wa, "ua": ua}
        assert ABLATION_TABLE["meld"][name] == {"accuracy": accuracy, "weighted_f1": f1}


def test_tables_viii_and_ix_are_as_printed(shared_dir):
    text = (shared_dir / "paper" / "m4ser.txt").read_text(encoding="utf-8")
    there, back = TRANSFER_TABLE["iemocap", "meld"], TRANSFER_TABLE["meld", "iemocap"]
    numbers = r"\t([\d.]+)\t([\d.]+)\t([\d.]+)\t([\d.]+)$"
    eighth = text[text.index("\nTABLE VIII\n") : text.index("Table VIII presents")]
    rows = {
        "Baseline (HuBERT + BERT)": "speech & text + concat",
        "+ MSR & MIR": "+ MSR & MIR",
        "+ GAN & LCL": "w/o AED & AEC",
        "+ AED & AEC (M^4SER)": "M4SER",
    }
    ninth = text[text.index("\nTABLE IX\n") :]
    ninth = ninth[ninth.index("M^4SER\t5") :]
    found = {}
    for words, name in rows.items():
        found[0, name] = re.search(f"^{re.escape(words)}{numbers}", eighth, re.MULTILINE)
    for shots in (5, 10, 20, 60):
        found[shots, "M4SER"] = re.search(f"^(?:M\\^4SER)?\t{shots}{numbers}", ninth, re.MULTILINE)
    for (shots, name), match in found.items():
        accuracy, f1, wa, ua = map(float, match.groups())
        assert there[shots][name] == {"accuracy": accuracy, "weighted_f1": f1}
        assert back[shots][name] == {"wa": wa, "ua": ua}
    assert len(found) == sum(len(part) for part in there.values()) == sum(len(part) for part in back.values())


def test_table_v_is_as_printed(shared_dir):
    text = (shared_dir / "paper" / "m4ser.txt").read_text(encoding="utf-8")
    table = text[text.index("\nTABLE V\n") : text.index("C. Sensitivity Analysis")]
    # Both parts print their columns one after the other: all parameters, all hours, all times, all WA, all UA.
    printed = {}
    names = list(COST_TABLE)
    for line, rows in (("Single-modal", names[:2]), ("Multi-modal", names[2:])):
        (cells,) = re.findall(rf"^{line}\t.*$", table, re.MULTILINE)
        numbers = [re.findall(r"\d+\.\d+", column) for column in cells.split("\t")]
        numbers = [list(map(float, column)) for column in numbers if column]
        for index, row in enumerate(rows):
            times = numbers[2][2 * index : 2 * index + 2]
            printed[row] = [numbers[0][index], numbers[1][index], *times, numbers[3][index], numbers[4][index]]
    for row, (*costs, wa, ua) in printed.items():
        assert list(COST_TABLE[row].values()) == costs
        assert ABLATION_TABLE["iemocap"][row] == {"wa": wa, "ua": ua}
    assert set(printed) == set(COST_TABLE) <= set(ABLATIONS)


def test_table_vii_is_as_printed(shared_dir):
    text = (shared_dir / "paper" / "m4ser.txt").read_text(encoding="utf-8")
    (numbers,) = re.findall(r"^DTW ↓\t(.*)$", text, re.MULTILINE)
    given = [value for example in CONSISTENCY_TABLE.values() for value in example.values()]
    assert list(map(float, numbers.split("\t"))) == given


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
        ("meld", 13706, None, False),
        ("meld", 2699, None, True),
    ],
)
def test_a_stand_in_is_told_from_the_corpus_of_its_name(tmp_path, corpus, utterances, report, other):
    if report != "missing":
        PreparationReport(corpus, stand_in=report).save(tmp_path / "report.json")
    assert bool(stand_in_reason(corpus, utterances, tmp_path)) is other
