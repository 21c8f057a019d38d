"""Studies are tested with what the tests of experiments share."""

from tests.helpers.pictures import blank_pictures, drawn  # noqa: F401  fixtures
from tests.trainer.experiments.conftest import data, encoders  # noqa: F401  fixtures
