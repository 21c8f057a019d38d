"""What a user can mend about a training run or an experiment."""

from data_scripts.errors import UserError


class ExperimentError(UserError):
    """An experiment cannot be run as asked; the message says what to change."""
