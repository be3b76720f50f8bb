"""`--sim-seed N --sim-calls M` plays one run again: what a failure prints."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--sim-seed", type=int, metavar="N", help="play this seed alone")
    group.addoption("--sim-calls", type=int, metavar="M", help="how many calls it has")
