"""The flows in force: by dialled number, by version, by name."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard import flowfile
from ivrguard.core.call import Call
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.guard import Flows, Mounted
from ivrguard.guard.books import CALL_KEPT_S, flow_key
from ivrguard.guard.world import VERSIONS_KEPT_MAX
from ivrguard.ports import Change, Put
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony.links import Links

Centre = Any


def of(flows: Flows, name: str, version: str) -> Mounted | None:
    """What this process has for a call, without asking the store."""
    return flows.kept(call_of(name, version)) or flows.named(name)


def call_of(name: str, version: str) -> Call:
    """A call that began with this version of this flow."""
    return Call("CA1", "AC1", name, version, ANONYMOUS, "+18005550100", attested=False, began_ms=0)


def test_a_number_leads_to_its_flow_and_every_other_one_to_the_star(centre: Centre, flow: Flow):
    """The number's own flow before the one for all; without a star, other numbers belong to nobody."""
    bank = centre.mounted(flow)
    rest = centre.mounted(replace(flow, name="rest", numbers=("*",)))

    both, one = Flows((bank, rest)), Flows((bank,))

    assert [both.dialled(number) for number in ("+18005550100", "+18005550111", "")] == [bank, rest, rest]
    assert one.dialled("+18005550111") is None
    assert (both.all(), both.first()) == ((bank, rest), bank)
    assert (Flows(()).all(), Flows(()).first()) == ((), None)


def test_a_call_keeps_the_version_it_began_with(centre: Centre, flow: Flow):
    """While both are in force; after a restart with another file, the flow of that name; otherwise none."""
    old, new = centre.mounted(replace(flow, version="1")), centre.mounted(replace(flow, version="2"))

    both, after = Flows((old, new)), Flows((new,))

    assert of(both, "bank", "1") is old
    assert of(both, "bank", "2") is new
    assert of(after, "bank", "1") is new
    assert of(after, "shop", "1") is None


NOW_MS = 1_800_000_000_000
DAY_MS = CALL_KEPT_S * 1000


@pytest.fixture
def version_of(centre: Centre, flow: Flow) -> Callable[..., Mounted]:
    """A flow of this version, mounted."""
    return lambda version, **more: centre.mounted(replace(flow, version=version, **more))


def test_a_set_comes_into_force_as_a_whole(version_of):
    """Numbers, names and all: what new calls get is the new set; those under way keep what they began with."""
    bank, shop = version_of("1"), version_of("1", name="shop", numbers=("+18005550155",))
    moved = version_of("2", numbers=("+18005550155",))
    flows = Flows((bank, shop))

    flows.replace((moved,), NOW_MS)

    assert (flows.dialled("+18005550155"), flows.dialled("+18005550100")) == (moved, None)
    assert (flows.in_force(), flows.first()) == ((moved,), moved)
    assert [of(flows, *one) for one in (("bank", "1"), ("shop", "1"), ("bank", "2"))] == [
        bank,
        shop,
        moved,
    ]
    assert of(flows, "shop", "0") is None
    assert flows.all() == (bank, shop, moved)

    flows.replace((), NOW_MS)

    assert (flows.in_force(), flows.first(), flows.dialled("+18005550155")) == ((), None, None)
    assert of(flows, "bank", "2") is moved
    assert of(flows, "bank", "3") is None


def test_a_version_is_kept_as_long_as_a_call_may_last(version_of):
    """From the moment that it was replaced, however often others are; then calls get the flow of that name."""
    versions = [version_of(str(number)) for number in range(4)]
    flows = Flows((versions[0],))
    flows.replace((versions[1],), NOW_MS)
    flows.replace((versions[2],), NOW_MS + DAY_MS - 1)
    assert [of(flows, "bank", str(number)) for number in range(3)] == versions[:3]

    flows.replace((versions[3],), NOW_MS + DAY_MS)

    found = [of(flows, "bank", str(number)) for number in range(4)]
    assert found == [versions[3], *versions[1:]]
    assert len(flows.all()) == 3


def test_what_comes_back_into_force_is_not_replaced_any_more(version_of):
    """An edit taken back: its day begins anew when it is replaced again."""
    one, other = version_of("1"), version_of("2")
    flows = Flows((one,))
    for mounted, after_ms in ((other, 0), (one, 1_000), (other, DAY_MS)):
        flows.replace((mounted,), NOW_MS + after_ms)
    flows.replace((other,), NOW_MS + 2 * DAY_MS - 1)
    assert of(flows, "bank", "1") is one
    flows.replace((other,), NOW_MS + 2 * DAY_MS)
    assert of(flows, "bank", "1") is other


def test_of_a_name_only_so_many_are_kept(version_of):
    """Those that were replaced first go, even when the clock jumps back; another flow's are not counted with them."""
    shop = version_of("1", name="shop", numbers=())
    flows = Flows((version_of("0"), shop))
    for number in range(1, VERSIONS_KEPT_MAX + 2):
        flows.replace((version_of(str(number)),), NOW_MS - number)

    kept = sorted(int(one.flow.version) for one in flows.all() if one.flow.name == "bank")

    assert kept == list(range(1, VERSIONS_KEPT_MAX + 2))
    assert of(flows, "bank", "0") is flows.first()
    assert of(flows, "shop", "1") is shop


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abcdef"), max_size=2), st.integers(0, DAY_MS // 3)), max_size=12
    )
)
def test_whatever_comes_and_goes_a_call_of_the_last_day_finds_its_version(flow, sets):
    """
    Over any history of sets: the version that a call began with is found for a day after it was replaced, and one
    that was replaced longer ago is not held on to.
    """
    links, zone = Links("https://guard.example", flow.upstream.url, (), bytes(32)), ZoneInfo("UTC")
    made = {version: Mounted(replace(flow, version=version), links, zone) for version in "abcdef"}
    now_ms, flows, last_ms = NOW_MS, Flows(()), {}
    in_force: set[str] = set()
    for versions, later_ms in sets:
        now_ms += later_ms
        last_ms |= dict.fromkeys(in_force, now_ms)
        flows.replace(tuple(made[version] for version in sorted(versions)), now_ms)
        in_force = versions
        expected = in_force | {version for version, at in last_ms.items() if now_ms - at < DAY_MS}
        assert {one.flow.version for one in flows.all()} == expected
        assert all(of(flows, "bank", version) is made[version] for version in expected)


# ── from the store ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def keeping(centre: Centre, flow: Flow):
    """A world whose process began with nothing, over a store that has the flow's version; and that version."""
    world = centre.world(flows=(), mount=centre.mounted)
    key = flow_key(flow.name, flow.version)
    await world.store.amend([key], lambda _: Change(None, (Put(key, dict(flow.files)),)))
    return world, call_of(flow.name, flow.version)


async def test_a_version_comes_back_from_the_store(keeping, flow: Flow, monkeypatch):
    """As it was read, and once: then it is here like any that was replaced."""
    world, call = keeping

    found = await world.flow_of(call)

    assert (found.flow.version, found.flow.rules) == (flow.version, flow.rules)
    assert world.flows.all() == (found,)
    monkeypatch.setattr(MemoryStore, "read", None)
    assert await world.flow_of(call) is found
    assert (world.flows.first(), world.flows.in_force()) == (None, ())


async def test_two_webhooks_that_miss_it_at_once_get_the_same(keeping):
    """Whoever comes second changes nothing."""
    world, call = keeping
    first, second = await asyncio.gather(world.flow_of(call), world.flow_of(call))
    assert first is second
    assert world.flows.all() == (first,)
    assert world.flows.kept(call) is first


def test_what_came_into_force_meanwhile_is_not_recalled(version_of):
    """It is kept for a day from the moment that it is replaced, not from a look into the store."""
    one, same = version_of("1"), version_of("1")
    flows = Flows((one,))
    flows.recall(same, NOW_MS - DAY_MS)

    flows.replace((version_of("2"),), NOW_MS)

    assert flows.kept(call_of("bank", "1")) is one


async def test_a_version_is_read_where_no_webhook_waits(keeping, monkeypatch):
    """A flow of the largest size takes a parser a while."""
    world, call = keeping
    real, threads = flowfile.restored, []

    def restored(files):
        threads.append(threading.get_ident())
        return real(files)

    monkeypatch.setattr(flowfile, "restored", restored)
    await world.flow_of(call)
    assert [thread == threading.get_ident() for thread in threads] == [False]


async def test_what_is_recalled_takes_no_new_calls(keeping, centre: Centre, flow: Flow):
    """The flow of that name and number is the one in force, before and after."""
    world, call = keeping
    now = centre.mounted(replace(flow, version="2"))
    world.flows.replace((now,), NOW_MS)

    found = await world.flow_of(call)

    assert found is not now
    assert world.flows.dialled("+18005550100") is world.flows.named("bank") is now
    assert world.flows.in_force() == (now,)


def refuses(_: Flow) -> Mounted:
    raise ValueError("an upstream that the settings rule out")


def knows_no_zone(_: Flow) -> Mounted:
    raise KeyError("Atlantis/Capital")


@pytest.mark.parametrize(
    ("files", "mount"),
    [
        (None, None),
        ({}, None),
        ({"": "flow: bank\n"}, None),
        ("another version's", None),
        ("its own", refuses),
        ("its own", knows_no_zone),
        ("its own", "nobody"),
    ],
)
async def test_a_version_that_is_gone_is_told_and_the_flow_of_that_name_serves(
    centre: Centre, flow: Flow, logged, files, mount
):
    """
    Not in the store; not to be read any more; not what it says it is; not to be had with these settings; or a process
    that keeps no versions.
    """
    made = centre.mounted(replace(flow, version="2"))
    mount = {None: centre.mounted, "nobody": None}.get(mount, mount)
    world = centre.world(flows=(made.flow,), mount=mount)
    call = call_of("bank", flow.version)
    if files is not None:
        texts = {"its own": flow.files, "another version's": {**flow.files, "": flow.files[""] + "#\n"}}
        key, kept = flow_key("bank", flow.version), dict(texts.get(str(files), files))
        await world.store.amend([key], lambda _: Change(None, (Put(key, kept),)))

    found = await world.flow_of(call)

    assert found is world.flows.named("bank")
    [told] = logged
    assert (told["event"], told["flow"], told["version"]) == ("flow_version_gone", "bank", flow.version)
    assert await world.flow_of(call_of("shop", "1")) is None


async def test_of_a_name_only_so_many_are_recalled(centre: Centre, version_of):
    """Calls of a hundred versions are no leak either: those that were recalled first go."""
    flows = Flows(())
    for number in range(VERSIONS_KEPT_MAX + 5):
        flows.recall(version_of(str(number)), NOW_MS)

    assert len(flows.all()) == VERSIONS_KEPT_MAX
    assert flows.kept(call_of("bank", "4")) is None
    assert flows.kept(call_of("bank", "5")) is not None


def test_a_nonce_is_128_bits_and_fits_a_url(centre: Centre):
    """32 hex digits, drawn from the chance handed in, never the same twice."""
    world = centre.world()

    drawn = {world.nonce() for _ in range(100)}

    assert len(drawn) == 100
    assert {len(nonce) for nonce in drawn} == {32}
    assert set("".join(drawn)) <= set("0123456789abcdef")


def test_a_world_shows_no_keys(centre: Centre):
    """Its repr holds neither the keys nor anything of theirs."""
    assert "Keyring(" not in repr(replace(centre.world(), store=None, directory=None, codes=None, judges={}))


def test_what_cannot_be_opened_is_a_fault_that_says_what_to_mend(centre: Centre):
    """Of another key, of another purpose, or no seal at all; nothing of what it holds is shown."""
    world = centre.world()
    sealed = world.keys.seal(b"secret", "cookies/CA1")

    assert world.unseal(sealed, "cookies/CA1") == b"secret"
    for bad, purpose in ((sealed, "cookies/CA2"), (f"k7.{sealed[3:]}", "cookies/CA1"), ("", "cookies/CA1")):
        with pytest.raises(Fault, match="an old sealing key must stay") as raised:
            world.unseal(bad, purpose)
        assert sealed[3:] not in str(raised.value)
