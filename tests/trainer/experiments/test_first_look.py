"""The first look at a corpus: what it says was found, what it proposes, and what it does not guess."""

import pytest
from datasets import DatasetDict

from tests.helpers.corpus import tiny_corpus
from trainer.experiments.first_look import first_look, guess_language


def without_speakers(data):
    feature = data.features["speaker"]
    return data.remove_columns("speaker").add_column("speaker", [None] * len(data), feature=feature)


def test_a_corpus_is_described_and_options_are_proposed():
    clips = tiny_corpus(24)
    found, proposed = first_look(DatasetDict(train=clips))
    assert found.startswith("Found: 24 clips, 0 minutes, 3 speakers, 4 classes (angry 6")
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
    assert "its own splits (train 24, test 24), no text yet." in found


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
        ("12 ?", None),
    ],
)
def test_the_language_is_guessed_where_it_is_clear(text, language):
    assert guess_language([text]) == language
