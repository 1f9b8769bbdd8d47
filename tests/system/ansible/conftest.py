"""One fleet for all tests of the collection: a bench and three devices, deployed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import need
from tests.system.ansible.fleet import Fleet, fresh_fleet
from tests.system.hosts.lab import PROGRAMS


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Fresh hosts; the tests of both files change them in the order they stand in."""
    need(root=True)
    need(module="ansible")
    for program in PROGRAMS:
        need(program=program)
    with fresh_fleet() as made:
        yield made
