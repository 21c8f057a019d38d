"""A data set's labels in a model's numbers: by name, by number, and what cannot be."""

import numpy as np
import pytest
import torch

from trainer.inputs.labels import LabelMap

MODEL = {0: "angry", 1: "happy", 2: "sad"}
UNNAMED = {index: f"LABEL_{index}" for index in range(3)}


@pytest.mark.parametrize(
    ("id2label", "class_names", "labels", "indices"),
    [
        (MODEL, None, ["sad", "angry", None], [2, 0, None]),
        (MODEL, None, [2, np.int64(1), torch.tensor(0)], [2, 1, 0]),
        (MODEL, ["angry", "happy", "sad"], [2, 1, "sad"], [2, 1, 2]),
        (MODEL, ["sad", "angry", "happy"], [0, 1, 2, "angry"], [2, 0, 1, 0]),
        (MODEL, ["bored", "sad"], [1], [2]),
        (UNNAMED, ["sad", "angry", "happy"], [0, 1, 2], [0, 1, 2]),
        (UNNAMED, None, [1, "LABEL_2"], [1, 2]),
    ],
)
def test_labels_become_the_model_s_numbers(id2label, class_names, labels, indices):
    label_map = LabelMap(id2label, class_names, "train_dataset")
    found = [label_map.index(label, "a row") for label in labels]
    assert found == indices
    assert all(type(index) in (int, type(None)) for index in found)


@pytest.mark.parametrize(
    ("class_names", "label", "message"),
    [
        (None, 3, r"^here has the label 3, which is outside the 3 classes; its labels: angry, happy, sad\. Build"),
        (None, -1, "^here has the label -1, which is outside the 3 classes"),
        (["sad", "angry", "happy"], 3, "^here has the label 3, which is outside the 3 classes"),
        (
            ["sad", "bored"],
            1,
            "^here has the label 'bored', which the model does not have; its labels: angry, ",
        ),
        (["sad", "bored"], 2, "^here has the label 2, which is outside the 2 classes"),
        (None, "Sad", "^here has the label 'Sad', which the model does not have"),
        (None, 1.0, "^here has the label 1.0: a label is the name or the number of a class"),
    ],
)
def test_a_label_that_the_model_does_not_have_is_named_with_its_row(class_names, label, message):
    with pytest.raises(ValueError, match=message):
        LabelMap(MODEL, class_names, "train_dataset").index(label, "here")


def test_what_is_not_obvious_is_told():
    assert LabelMap(MODEL, None, "d").notice is None
    assert LabelMap(MODEL, ["angry", "happy", "sad"], "d").notice is None
    by_name = LabelMap(MODEL, ["sad", "happy", "angry"], "d").notice
    assert by_name.startswith(
        "d numbers its classes in another way than the model (sad, happy, angry; the model: angry,"
    )
    by_number = LabelMap(UNNAMED, ["sad", "happy", "angry"], "d").notice
    assert by_number.startswith(
        "The model's labels have no names: the classes of d, sad, happy, angry, are taken by number"
    )


def test_an_unnamed_model_of_another_size_is_refused():
    with pytest.raises(
        ValueError, match=r"d has 2 classes \(sad, happy\), the model has 3\. Build the model with id2label"
    ):
        LabelMap(UNNAMED, ["sad", "happy"], "d")
