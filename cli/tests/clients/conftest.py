"""What the tests of all clients share."""

import pytest

from scripted import scripted, served


@pytest.fixture(scope="module")
def upstream():
    with scripted() as server:
        yield server


@pytest.fixture(scope="module")
def url(upstream):
    with served(upstream) as address:
        yield address
