"""What a user can correct about training data, a training run or an experiment."""

from data_scripts.errors import UserError


class TrainingError(UserError):
    """Rows, a model or arguments cannot be trained with; the message names them and says what to change."""


class ExperimentError(UserError):
    """An experiment cannot be run as asked; the message says what to change."""
