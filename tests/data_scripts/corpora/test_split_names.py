"""Words for splits: in the names of folders they stand alone, in those of tables other words may stand beside them."""

import pytest

from data_scripts.corpora.split_names import split_word


@pytest.mark.parametrize(
    ("name", "folder", "table"),
    [
        ("Train", "train", "train"),
        ("TEST_set", "test", "test"),
        ("trainset", "train", "train"),
        ("dev-2", "dev", "dev"),
        ("wavs test", "test", "test"),
        ("test_anxiety", None, "test"),
        ("train_test", None, None),
        ("trainer", None, None),
        ("happy", None, None),
        ("", None, None),
    ],
)
def test_words(name, folder, table):
    assert (split_word(name), split_word(name, alone=False)) == (folder, table)
