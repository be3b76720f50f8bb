"""A record with every event in it, and how its entries are chained."""

import pytest

from ivrguard.core.audit import GENESIS, Entry, link, name
from ivrguard.exports.events import MEANINGS

AT_MS = 1_795_813_101_680


def _entry(place, event):
    """An entry as the guard makes them: of a call and an account, but for what operators do."""
    by_hand = event.startswith(
        ("desk", "flow", "record", "store", "user", "credentials", "authn_login_unlock")
    )
    detail = (
        (("by", "ann"), ("desk", "front"), ("flow", "bank"))
        if by_hand
        else (("factor", "pin"), ("intent", "wire"))
    )
    account = "" if event.startswith(("desk", "flow", "record", "store")) else "acc_txlfgpwb3c2vene6"
    return Entry(AT_MS + place, event, "" if by_hand else "CA" + "1" * 32, account, "why", detail)


def _chained(entries):
    chain, hash_ = [], GENESIS
    for seq, one in enumerate(entries, 1):
        chain.append((hash_, link(seq, hash_, one)))
        hash_ = chain[-1][1].hash
    return chain


@pytest.fixture(scope="session")
def chain():
    """(hash before, linked) for each event there is, one without a row, one before an account is named."""
    events = [*MEANINGS, "something_new"]
    return _chained(
        [*(_entry(*each) for each in enumerate(events)), Entry(AT_MS, "authz_step_up", "CA" + "2" * 32)]
    )


@pytest.fixture(scope="session")
def chain_name(chain):
    return name(chain[0][1])
