"""What the tests of the example scripts share."""

from tests.helpers.pictures import blank_pictures  # noqa: F401  a fixture
