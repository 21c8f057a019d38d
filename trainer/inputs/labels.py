"""The labels of a data set in a model's numbers: names by name, integers as they are or by the name they stand for."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any


class LabelMap:
    """Turns the labels of a data set into class indices of a model.

    A string is the name of a class. An integer is the model's own index, unless the data set names its integers
    (`datasets.ClassLabel`): then it counts by its name. A model without names (LABEL_0, LABEL_1 …) takes the integers
    of a data set that has as many classes.

    Args:
        id2label: of the model's configuration.
        class_names: what the data set's integers stand for; None where it does not say.
        owner: what the data set is called in messages.

    Raises:
        ValueError: the model's labels have no names, and the data set has another number of classes.
    """

    def __init__(self, id2label: Mapping[int, str], class_names: Sequence[str] | None, owner: str):
        self.names = [id2label[index] for index in range(len(id2label))]
        self.class_names = None if class_names is None else list(class_names)
        unnamed = self.names == [f"LABEL_{index}" for index in range(len(self.names))]
        self._hint = (
            f"its labels: {', '.join(self.names)}. Build the model with the classes of the data (id2label, label2id), "
            "or rename them, or leave such rows out."
        )
        #: What is to be told of this data set; None where its labels are the model's.
        self.notice: str | None = None
        if self.class_names is None or self.class_names == self.names:
            self.class_names = None
        elif not unnamed:
            self.notice = (
                f"{owner} numbers its classes in another way than the model ({', '.join(self.class_names)}; the model: "
                f"{', '.join(self.names)}): labels are taken by name."
            )
        elif len(self.class_names) == len(self.names):
            self.notice = (
                f"The model's labels have no names: the classes of {owner}, {', '.join(self.class_names)}, are taken "
                "by number. Build the model with id2label and label2id, so that its predictions have names."
            )
            self.class_names = None
        else:
            raise ValueError(
                f"{owner} has {len(self.class_names)} classes ({', '.join(self.class_names)}), the model has "
                f"{len(self.names)}. Build the model with id2label=dict(enumerate(names))."
            )

    def index(self, label: Any, row: str) -> int | None:
        """Return the model's index of a label, or None for None.

        Args:
            label: a name or an integer.
            row: what the row is called in messages.

        Raises:
            ValueError: the model has no such class; or the label is neither a name nor an integer.
        """
        if label is None:
            return None
        name = label
        if not isinstance(label, str):
            try:
                number = operator.index(label)
            except TypeError as error:
                raise ValueError(
                    f"{row} has the label {label!r}: a label is the name or the number of a class."
                ) from error
            size = len(self.names if self.class_names is None else self.class_names)
            if not 0 <= number < size:
                raise ValueError(f"{row} has the label {number}, which is outside the {size} classes; {self._hint}")
            if self.class_names is None:
                return number
            name = self.class_names[number]
        if name not in self.names:
            raise ValueError(f"{row} has the label {name!r}, which the model does not have; {self._hint}")
        return self.names.index(name)
