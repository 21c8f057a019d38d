"""The first look at a corpus: what it says was found, what it proposes, and what it does not guess."""

import pytest
from datasets import DatasetDict

from data_scripts.schema import build_dataset
from tests.helpers.corpus import tiny_corpus
from trainer.experiments.first_look import first_look, guess_language


def without_speakers(data):
    feature = data.features["speaker"]
    return data.remove_columns("speaker").add_column("speaker", [None] * len(data), feature=feature)


def test_a_corpus_is_described_and_options_are_proposed():
    clips = tiny_corpus(80)
    found, proposed = first_look(DatasetDict(train=clips))
    assert found.startswith("Found: 80 clips, 0 minutes, 3 speakers, 4 classes (angry 20")
    assert proposed == "Consider: --preset small."
    _, proposed = first_look(DatasetDict(train=clips, test=clips.select([0] * 1000)))  # few to train on
    assert proposed == "Consider: --preset small."
    german = clips.map(lambda row: {"hypothesis": "das ist nicht mein und wir", "transcript": None})
    found, proposed = first_look(DatasetDict(train=without_speakers(german)), preset_helps=False)
    assert "no speakers" in found
    assert "text looks German" in found
    assert "--split_by utterance" in proposed
    assert "multilingual" in proposed
    assert "--preset" not in proposed
    assert "--split_by" not in first_look(DatasetDict(train=without_speakers(german)), holds_speakers_out=False)[1]
    silent = clips.map(lambda row: {"hypothesis": None, "transcript": None})
    (found,) = first_look(DatasetDict(train=silent, test=silent), preset_helps=False)
    assert "its own splits (train 80, test 80), no text yet." in found


def labelled(labels, speakers):
    """30 clips of each label, or as many as stand with it; as many speakers as labels speak one each, others all."""
    numbers = dict(label if isinstance(label, tuple) else (label, 30) for label in labels)
    rows = []
    for place, (label, number) in enumerate(numbers.items()):
        for turn in range(number):
            speaker = speakers[place] if len(speakers) == len(numbers) else speakers[len(rows) % len(speakers)]
            rows.append({"id": f"{label} {turn}", "duration": 1.0, "speaker": speaker, "emotion": label})
    return DatasetDict(train=build_dataset(rows, list(numbers)))


@pytest.mark.parametrize(
    ("labels", "speakers", "doubts"),
    [
        (["angry", "sad"], "abc", []),
        (["angry", "happy/excited", "S", "7", "sad.", "none", "so-so"], "abc", []),
        (["angry", "sad"], ("ann", "ben"), ["each class has one speaker (angry: ann, sad: ben)"]),
        (["angry", "sad"], ("ann",), []),
        (["angry", "sad"], (None, None), []),
        (["angry", "sad"], (None, "ann"), []),
        (["angry", "sad", "S01", "2.wav"], "abc", []),
        *(([f"{kind}1", f"{kind}2"], "abc", ["look like speakers"]) for kind in ("Actor_0", "spk1", "S0", "F0", "P-")),
        (["Ses01F", "Ses01M", "angry"], "ab", ["look like speakers (Ses01F, Ses01M)"]),
        *(
            ([f"{kind}1", f"{kind}2"], "abc", ["look like dates"])
            for kind in ("2024-05-0", "1.5.202", "2024010", "10:0")
        ),
        *(
            ([f"{kind}1", f"{kind}2"], "abc", ["look like files"])
            for kind in ("/data/x/", "C:\\x\\", "a/b/", "https://x/")
        ),
        (["1.wav", "2.wav", "x.flac"], "ab", ["look like files (1.wav, 2.wav, x.flac)"]),
        ([("angry", 20), ("sad", 20)], "abc", []),
        ([("angry", 19), ("sad", 20)], "abc", ["2 classes share 39 clips"]),
        (["angry", "sad"], [*map(str, range(30))], []),
        (["angry", "sad"], [*map(str, range(31))], ["31 speakers of 60 clips: --speaker_column_name"]),
        (["angry", "sad", ("calm", 1)], "ab", ["one clip only of calm"]),
    ],
)
def test_labels_that_may_be_something_else_are_asked_about(labels, speakers, doubts):
    lines = [line for line in first_look(labelled(labels, speakers), preset_helps=False) if line.startswith("Check:")]
    assert len(lines) == len(doubts), lines
    assert all(doubt in line for doubt, line in zip(doubts, lines, strict=True)), lines


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I can't believe that you have done this to the house", "English"),
        ("ich weiß nicht was das ist und wie es geht", "German"),
        ("je ne sais pas, mais vous êtes dans une maison", "French"),
        ("yo no lo creo pero es muy bueno para el perro", "Spanish"),
        ("не могу поверить", "Russian or another language in Cyrillic"),
        ("信じられないです", "Japanese"),
        ("我不相信", "Chinese or Japanese"),
        ("믿을 수 없어", "Korean"),
        ("dogs are sitting by the door", "English"),
        ("zzz qqq", None),
        ("que para como", None),  # Spanish and Portuguese
        ("12 ?", None),
    ],
)
def test_the_language_is_guessed_where_it_is_clear(text, language):
    assert guess_language([text]) == language
