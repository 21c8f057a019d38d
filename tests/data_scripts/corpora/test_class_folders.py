"""Folders above recordings: which is the class, which the speaker, and when nothing says so."""

import pytest

from data_scripts.corpora.class_folders import read_class_folders


def crossed(first, second):
    """Two levels of folders, each of one within each of the other, with a recording in each."""
    return [f"{a}/{b}" for a in first for b in second]


TESS = [f"{speaker}_{emotion}" for speaker in ("OAF", "YAF") for emotion in ("angry", "Pleasant_surprise")]


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (["happy", "sad"], {"happy": ("happy", None), "sad": ("sad", None)}),
        (["calls", "chats"], {"calls": ("calls", None), "chats": ("chats", None)}),
        (crossed(["happy", "sad"], ["ann", "bob"]), {"happy/ann": ("happy", "ann"), "sad/bob": ("sad", "bob")}),
        (crossed(["0001", "0002"], ["Wut", "Ekel"]), {"0001/Wut": ("Wut", "0001"), "0002/Ekel": ("Ekel", "0002")}),
        # Most of a level's names are words for emotions.
        (crossed(["ann", "joy"], ["anger", "fear", "blue"]), {"joy/blue": ("blue", "joy")}),
        # A folder around all of them says nothing.
        (crossed(["data"], ["happy", "sad"]), {"data/sad": ("sad", None)}),
        (crossed(["data"], ["calls", "chats"]), {"data/calls": ("calls", None)}),
        # A folder within a class is none.
        (["happy", "happy/sub", "sad"], {"happy/sub": ("happy", None), "sad": ("sad", None)}),
        (["calls", "calls/sub", "chats"], {"calls/sub": ("calls", None), "chats": ("chats", None)}),
        (["happy/sub", "sad/more"], {"happy/sub": ("happy", None)}),
        # Speakers of a corpus are of several classes.
        (["happy/a", "happy/b", "sad/c"], {"happy/a": ("happy", None), "sad/c": ("sad", None)}),
        (TESS, {TESS[0]: ("angry", "OAF"), TESS[3]: ("Pleasant_surprise", "YAF")}),
        (["angry-03", "angry-08", "sad-03", "sad-08"], {"angry-08": ("angry", "08")}),
        # Numbers that put the classes into an order.
        (["01_happy", "02_sad"], {"01_happy": ("01_happy", None)}),
        (crossed(["fold1", "fold_2"], ["happy", "sad"]), {"fold_2/sad": ("sad", None)}),
        (["", "happy", "sad"], {"": (None, None), "sad": ("sad", None)}),
    ],
)
def test_classes_and_speakers(places, found):
    known = read_class_folders({place: [part for part in place.split("/") if part] for place in places})
    assert known is not None
    assert {place: (known[place].get("label"), known[place].get("speaker")) for place in found} == found
    folds = {place: place.split("/")[0] for place in places if place.startswith("fold")}
    assert {place: values["session"] for place, values in known.items() if "session" in values} == folds


@pytest.mark.parametrize(
    "places", [crossed(["calls", "chats"], ["ann", "bob"]), crossed(["happy", "sad"], ["angry", "calm"])]
)
def test_what_the_names_do_not_say(places):
    assert read_class_folders({place: place.split("/") for place in places}) is None
