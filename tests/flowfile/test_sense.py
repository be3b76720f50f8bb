"""The section `sense`: a table of what is written and what is read, or what is told to mend."""

import pytest

from ivrguard.core.sense import Attack, Sense, Threshold
from ivrguard.flowfile import sense
from ivrguard.flowfile.sense import LIMITS


def written(files, section):
    return files.reading(f"{files.small_text}\nsense: {section}\n")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{}", Sense()),
        ("{spray: 30 in 12h, flood: off}", Sense(spray=Threshold(30, 43_200), flood=None)),
        (
            "{many_numbers: 3 in 1m, many_accounts: 60 in 7d, stuffing: 1000000 in 1h}",
            Sense(
                many_numbers=Threshold(3, 60),
                many_accounts=Threshold(60, 604_800),
                stuffing=Threshold(1_000_000, 3600),
            ),
        ),
    ],
)
def test_what_is_read(files, section, expected):
    """What is left out is as usual."""
    assert written(files, section).flow.sense == expected


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{spray: 4 in 6h}", "sense.spray: here is '4 in 6h'; what is wanted: so many in a time, such as"),
        ("{spray: 20}", "sense.spray: here is '20'"),
        ("{flood: 300 in 59s}", "sense.flood: here is '300 in 59s'"),
        ("{many_numbers: 61 in 1d}", "(3 to 60, in 1m to 7d)"),
        ("{stuffing: 100 in 8d}", "sense.stuffing: here is '100 in 8d'"),
        ("{sprya: off}", "sense.sprya: unknown key 'sprya'; did you mean 'spray'?"),
        ("{raise: none such}", "sense.raise: here is 'none such'"),
        ("{raise: nobody}", "sense.raise: there is no level 'nobody'"),
    ],
)
def test_what_is_told_to_mend(files, section, expected):
    """At its place, with what may stand there."""
    (fault,) = written(files, section).faults
    assert expected in f"{fault.path}: {fault.message}"


def test_the_table_is_whole():
    """Each attack has its limits, and its usual threshold is within them; each key is in the schema."""
    assert set(LIMITS) == set(Attack)
    for attack, (low, high) in LIMITS.items():
        assert low <= Sense().of(attack).count <= high
    assert set(sense.shape()["properties"]) == set(sense.KEYS)
