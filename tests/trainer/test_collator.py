"""Batches out of corpus rows: inputs, emotions, and the labels of detection and correction."""

import pytest
import torch

from modeling_m4ser import apply_edits
from tests.helpers.corpus import tiny_corpus
from tests.helpers.tiny import tiny_config, tiny_processor
from trainer import M4SERDataCollator
from trainer.experiments.ablations import ABLATIONS


def collator_of(tmp_path, processor_options=None, with_labels=True, text_column="hypothesis", limit=None, **config):
    processor = tiny_processor(tmp_path, "whisper", **(processor_options or {}))
    options = {"with_auxiliary_labels": with_labels, "text_column": text_column, "max_correction_tokens": limit}
    return M4SERDataCollator(processor, tiny_config("whisper", **config), **options)


@pytest.fixture
def collator(tmp_path):
    return collator_of(tmp_path)


def rows_of(size=6, **changes):
    return [{**row, **changes} for row in tiny_corpus(size)]


def test_applying_the_labels_gives_the_reference_back(collator):
    rows = rows_of()
    batch = collator(rows)
    end = collator.processor.tokenizer.sep_token_id
    for index, row in enumerate(rows):
        length = int(batch["text_attention_mask"][index].sum())
        pieces = batch["input_ids"][index, 1 : length - 1].tolist()
        labels = batch["detection_labels"][index]
        assert labels[0] == -100
        assert (labels[length - 1 :] == -100).all()
        targets = {}
        for place in (labels == 2).nonzero()[:, 0].tolist():
            target = batch["correction_labels"][index, place]
            target = target[target != -100].tolist()
            assert target[-1] == end
            targets[place - 1] = target[:-1]
        rewritten = {
            place for place in range(labels.numel()) if (batch["correction_labels"][index, place] != -100).any()
        }
        assert rewritten == {place + 1 for place in targets}
        reference = collator.processor.tokenizer(row["transcript"], add_special_tokens=False)["input_ids"]
        assert apply_edits(pieces, labels[1 : length - 1].tolist(), targets) == reference


def test_without_detection_the_whole_reference_is_written_from_the_first_token(tmp_path):
    collator, rows = collator_of(tmp_path, use_error_detection=False), rows_of()
    batch = collator(rows)
    assert "detection_labels" not in batch
    for index, row in enumerate(rows):
        reference = collator.processor.tokenizer(row["transcript"], add_special_tokens=False)["input_ids"]
        target = batch["correction_labels"][index, 0]
        assert target[target != -100].tolist() == [*reference, collator.processor.tokenizer.sep_token_id]
        assert (batch["correction_labels"][index, 1:] == -100).all()


@pytest.mark.parametrize(
    ("ablation", "wanted", "made"),
    [
        ("M4SER", True, {"detection_labels", "correction_labels"}),
        ("M4SER", False, set()),
        ("w/o AEC", True, {"detection_labels"}),
        ("w/o AED", True, {"correction_labels"}),
        ("w/o AED & AEC", True, set()),
    ],
)
def test_only_labels_that_are_wanted_and_trained_are_made(tmp_path, ablation, wanted, made):
    batch = collator_of(tmp_path, with_labels=wanted, **ABLATIONS[ablation])(rows_of())
    assert {name for name in batch if name.endswith("_labels")} == made
    assert "labels" in batch


def test_rows_without_a_transcript_or_words_get_no_auxiliary_labels(collator):
    rows = rows_of()
    rows[0]["transcript"] = None
    rows[2]["hypothesis"] = ""
    batch = collator(rows)
    for name in ("detection_labels", "correction_labels"):
        assert [bool((labels != -100).any()) for labels in batch[name]][:3] == [False, True, False]
    assert not {"detection_labels", "correction_labels"} & set(collator(rows_of(transcript=None)))


def test_ground_truth_text(tmp_path):
    collator, rows = collator_of(tmp_path, text_column="transcript"), rows_of(2, hypothesis=None)
    expected = collator.processor(text=[row["transcript"] for row in rows])["input_ids"]
    assert torch.equal(collator(rows)["input_ids"], expected)


def pieces_and_reference(collator, batch, index):
    """The word pieces that a row's model reads, and what its labels make of them."""
    pieces = batch["input_ids"][index, 1 : int(batch["text_attention_mask"][index].sum()) - 1].tolist()
    targets = {
        place - 1: [piece for piece in target.tolist() if piece != -100][:-1]
        for place, target in enumerate(batch["correction_labels"][index])
        if (target != -100).any()
    }
    return pieces, apply_edits(pieces, batch["detection_labels"][index, 1 : len(pieces) + 1].tolist(), targets)


@pytest.mark.parametrize("text_column", ["hypothesis", "transcript"])
def test_texts_get_errors_in_training_alone_and_the_labels_are_of_them(tmp_path, text_column):
    collator, rows = collator_of(tmp_path, text_column=text_column), rows_of(4)
    if text_column == "hypothesis":
        rows[1]["transcript"], rows[2]["transcript"] = None, ""
    without, encode = collator(rows), collator.processor.encode_transcript
    collator.transcript_noise = lambda text: f"dogs {text}"
    assert all(torch.equal(tensor, without[name]) for name, tensor in collator(rows).items())
    batch = collator.training_batch(rows)
    for index, row in enumerate(rows):
        pieces, reference = pieces_and_reference(collator, batch, index)
        assert pieces == encode(f"dogs {row[text_column]}")
        assert reference == encode(row["hypothesis"] if row["transcript"] is None else row["transcript"])
    assert batch["labels"].tolist() == without["labels"].tolist()


def test_without_noise_or_text_a_batch_to_train_on_is_as_any(collator, tmp_path):
    deaf = collator_of(tmp_path, **ABLATIONS["only speech"])
    deaf.transcript_noise = pytest.fail
    for each in (collator, deaf):
        expected, made = each(rows_of()), each.training_batch(rows_of())
        assert expected.keys() == made.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in made.items())


def test_emotions_all_or_none(collator):
    assert collator(rows_of(3))["labels"].tolist() == [0, 1, 2]
    assert "labels" not in collator(rows_of(3, emotion=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({"emotion": e}, f"'clip01' has the emotion {e!r}: it must be 0 to 3") for e in (4, -1, "happy")),
        ({"emotion": None}, "'clip01' has no emotion, others have"),
        ({"hypothesis": None}, r"'clip01'.*transcribe"),
        ({"hypothesis": ["so"]}, r"'clip01': its 'hypothesis' must be a string, not list"),
        ({"transcript": {}}, r"'clip01': its 'transcript' must be a string, not dict"),
        ({"audio": {"path": "clip01.flac", "bytes": b"not audio"}}, "clip01"),
    ],
)
def test_what_cannot_be_read_names_the_row(collator, change, message):
    rows = rows_of(3)
    rows[1] |= change
    with pytest.raises(ValueError, match=message):
        collator(rows)


@pytest.mark.parametrize(
    ("detection", "limit", "words", "kept", "warned"),
    [
        (True, None, 31, 31, False),  # 32 tokens with the end
        (True, None, 32, 31, True),
        (True, 3, 2, 2, False),
        (True, 3, 5, 2, True),
        (False, None, 50, 50, False),
        (False, None, 500, 62, False),  # as long as a text may be
        (False, 5, 50, 4, True),
    ],
)
def test_long_targets_are_cut(tmp_path, detection, limit, words, kept, warned, caplog):
    """The end stays the last token, and a cut is warned of once."""
    collator = collator_of(tmp_path, limit=limit, use_error_detection=detection)
    happy, end = collator.processor.tokenizer.convert_tokens_to_ids(["happy", "[SEP]"])
    for _ in range(2):
        batch = collator(rows_of(1, hypothesis="home", transcript="happy " * words))
    assert batch["correction_labels"][0, int(detection)].tolist() == [happy] * kept + [end]
    message = f"Correction targets over {limit or 32} tokens are cut (the collator's max_correction_tokens)."
    assert [record.getMessage() for record in caplog.records] == [message] * warned


@pytest.mark.parametrize("limit", [1, 0, -3])
def test_a_target_has_room_for_a_token_and_its_end(tmp_path, limit):
    with pytest.raises(ValueError, match=f"max_correction_tokens must be at least 2, not {limit}"):
        M4SERDataCollator(tiny_processor(tmp_path), tiny_config(), max_correction_tokens=limit)


def test_a_2000_word_transcript_is_cut_with_its_labels(collator):
    text = "happy " * 2000
    batch = collator(rows_of(1, hypothesis=text, transcript=text))
    assert batch["input_ids"].shape == (1, 64)
    assert (batch["detection_labels"][0, 1:63] == 0).all()


@pytest.mark.parametrize("texts", [("i am so happy", "I am SO happy!"), ("I am so HAPPY.", "i am so happy")])
def test_case_and_punctuation_are_no_errors(collator, texts):
    batch = collator(rows_of(1, hypothesis=texts[0], transcript=texts[1]))
    assert set(batch["detection_labels"].flatten().tolist()) == {0, -100}
    assert (batch["correction_labels"] == -100).all()


def test_a_recording_that_is_cut_is_named_once(tmp_path, caplog):
    collator = collator_of(tmp_path, {"max_audio_seconds": 0.3})
    (row,) = rows_of(1, id="interview 7", audio={"array": torch.rand(16000) - 0.5, "sampling_rate": 16000})
    collator([row, row])
    (record,) = caplog.records
    assert record.getMessage().startswith("interview 7 lasts 1.0 s")
