"""What the tests of figures share."""

from tests.helpers.pictures import drawn  # noqa: F401  a fixture
