"""What an identity provider says of somebody, and when it is believed: laws 1 to 4 of the code, as tables and properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.agents import Agent, Role
from ivrguard.core.claims import (
    ID_AGE_S,
    SKEW_S,
    SUBJECT_CHARS_MAX,
    Company,
    access_fault,
    agent_of,
    id_fault,
    shown_ms,
)

NOW = 1_795_000_000
ISSUER = "https://login.bank.example/"
COMPANY = Company(
    ISSUER, "ivrguard", audience="https://guard/api", roles={"agents": Role.AGENT, "fraud": Role.RISK}
)
ID = {
    "iss": ISSUER,
    "aud": "ivrguard",
    "sub": "00u1",
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": "n",
    "auth_time": NOW - 60,
}
ACCESS = {"iss": ISSUER, "aud": ["https://guard/api"], "sub": "00u1", "exp": NOW + 300, "iat": NOW}


def without(claims, *names, **changed):
    return {name: value for name, value in {**claims, **changed}.items() if name not in names}


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        (ID, ""),
        (without(ID, iss="https://login.bank.example"), "issuer"),
        (without(ID, iss="https://evil.example/"), "issuer"),
        (without(ID, "iss"), "issuer"),
        (without(ID, aud="another"), "audience"),
        (without(ID, "aud"), "audience"),
        (without(ID, aud=[]), "audience"),
        (without(ID, aud={"ivrguard": 1}), "audience"),
        (without(ID, aud=["ivrguard"]), ""),
        (without(ID, aud=["ivrguard", "another"]), "party"),
        (without(ID, aud=["ivrguard", "another"], azp="another"), "party"),
        (without(ID, aud=["ivrguard", "another"], azp="ivrguard"), ""),
        (without(ID, azp="another"), "party"),
        (without(ID, exp=NOW - SKEW_S), "expired"),
        (without(ID, exp=NOW - SKEW_S + 1), ""),
        (without(ID, "exp"), "expired"),
        (without(ID, exp="never"), "expired"),
        (without(ID, exp=True), "expired"),
        (without(ID, exp=math.inf), "expired"),
        (without(ID, exp=math.nan), "expired"),
        (without(ID, exp=2**70), "expired"),
        (without(ID, exp=NOW + 0.5), ""),
        (without(ID, nbf=NOW + SKEW_S + 1), "not_yet"),
        (without(ID, nbf=NOW + SKEW_S), ""),
        (without(ID, nbf="x"), "not_yet"),
        (without(ID, iat=NOW + SKEW_S + 1), "issued"),
        (without(ID, iat=NOW + SKEW_S), ""),
        (without(ID, iat=NOW - ID_AGE_S - SKEW_S), ""),
        (without(ID, iat=NOW - ID_AGE_S - SKEW_S - 1), "issued"),
        (without(ID, "iat"), "issued"),
        (without(ID, nonce="m"), "nonce"),
        (without(ID, "nonce"), "nonce"),
        (without(ID, nonce=["n"]), "nonce"),
        (without(ID, "auth_time"), ""),
    ],
)
def test_when_an_id_token_is_believed(claims, fault):
    """OpenID Connect Core 1.0, 3.1.3.7, claim by claim."""
    assert id_fault(COMPANY, claims, nonce="n", now_s=NOW, since_s=NOW - 100) == fault


def test_without_a_nonce_of_ours_none_is_believed():
    assert id_fault(COMPANY, without(ID, nonce=""), nonce="", now_s=NOW, since_s=0) == "nonce"


@pytest.mark.parametrize(
    ("auth_time", "fault", "fault_anew"),
    [
        (NOW - 10, "", ""),
        (NOW - 10 - SKEW_S, "", ""),
        (NOW - 11 - SKEW_S, "auth_time", "auth_time"),
        (None, "", "auth_time"),
        ("now", "", "auth_time"),
    ],
)
def test_when_he_must_have_shown_who_he_is(auth_time, fault, fault_anew):
    """A provider that ignores `prompt=login` or `max_age` and answers from an old session of its own is found out."""
    claims = without(ID, *([] if auth_time is not None else ["auth_time"]), auth_time=auth_time)
    assert id_fault(COMPANY, claims, nonce="n", now_s=NOW, since_s=NOW - 10) == fault
    assert id_fault(COMPANY, claims, nonce="n", now_s=NOW, since_s=NOW - 10, anew=True) == fault_anew


def test_how_he_must_have_shown_it():
    """`acr`, where the company says which (ASVS 6.8.4)."""
    strict = Company(ISSUER, "ivrguard", roles=COMPANY.roles, acr=("phr", "mfa"))
    for acr, fault in (("mfa", ""), ("pwd", "acr"), (None, "acr"), (["mfa"], "acr")):
        assert id_fault(strict, without(ID, acr=acr), nonce="n", now_s=NOW, since_s=NOW - 100) == fault


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        (ACCESS, ""),
        (without(ACCESS, "iat"), ""),
        (without(ACCESS, iss="https://evil.example/"), "issuer"),
        (without(ACCESS, aud="ivrguard"), "audience"),
        (without(ACCESS, aud=["other"]), "audience"),
        (without(ACCESS, "aud"), "audience"),
        (without(ACCESS, exp=NOW - SKEW_S), "expired"),
        (without(ACCESS, iat=NOW + 100), "issued"),
        (ID, "audience"),
    ],
)
def test_when_an_access_token_is_believed(claims, fault):
    """RFC 9068, 4. An ID token is none: it is for the client, not for the API."""
    assert access_fault(COMPANY, claims, now_s=NOW) == fault


def test_where_no_audience_is_set_no_access_token_is_believed():
    assert access_fault(Company(ISSUER, "ivrguard"), without(ACCESS, aud=[""]), now_s=NOW) == "audience"


WHOLE = {
    "sub": "00u1",
    "name": "Ann Lee",
    "roles": ["agents", "fraud", "staff", 7],
    "queues": [
        "workflow:*",
        "queue:fraud line",
        "bad:x",
        "queue",
        "",
        "*",
        5,
        "queue:****",
        "workflow:*",
        "queue:\n",
    ],
    "manager": "00u2",
}


def test_who_it_is():
    """Roles that are mapped, queues of a kind that there is, whom he reports to; all else is dropped."""
    assert agent_of(COMPANY, WHOLE, shown_ms=5) == Agent(
        "oidc:00u1",
        "Ann Lee",
        frozenset({Role.AGENT, Role.RISK}),
        ("workflow:*", "queue:fraud line", "*"),
        "oidc:00u2",
        shown_ms=5,
    )


def test_claims_of_claims():
    """As Keycloak has them; and a claim that is called just so, as Auth0 has them, comes first."""
    nested = Company(ISSUER, "i", roles=COMPANY.roles, roles_claim="realm_access.roles")
    assert agent_of(nested, {"sub": "u", "realm_access": {"roles": ["agents"]}}, shown_ms=0).roles == {
        Role.AGENT
    }
    assert agent_of(nested, {"sub": "u", "realm_access": "agents"}, shown_ms=0) is None
    named = Company(ISSUER, "i", roles=COMPANY.roles, roles_claim="https://bank.example/roles")
    assert agent_of(named, {"sub": "u", "https://bank.example/roles": "fraud"}, shown_ms=0).roles == {
        Role.RISK
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"roles": []},
        {"roles": ["staff"]},
        {"roles": "agents fraud"},
        {"roles": {"agents": True}},
        {"roles": None},
        {"sub": ""},
        {"sub": None},
        {"sub": 7},
        {"sub": "a b"},
        {"sub": "ä"},
        {"sub": "a\n"},
        {"sub": "x" * (SUBJECT_CHARS_MAX + 1)},
    ],
)
def test_who_has_no_role_or_no_name_is_nobody(changed):
    """Law 2: no role is a default."""
    assert agent_of(COMPANY, {**WHOLE, **changed}, shown_ms=0) is None


@pytest.mark.parametrize(
    ("changed", "label", "manager"),
    [
        ({"name": "x" * 200}, "x" * 80, "oidc:00u2"),
        ({"name": "a\nb"}, "", "oidc:00u2"),
        ({"name": 5, "manager": ""}, "", ""),
        ({"manager": "a b"}, "Ann Lee", ""),
        ({"manager": ["00u2"]}, "Ann Lee", ""),
    ],
)
def test_what_has_not_its_form_gives_nothing(changed, label, manager):
    """Law 3."""
    found = agent_of(COMPANY, {**WHOLE, **changed}, shown_ms=0)
    assert (found.label, found.manager) == (label, manager)


def test_when_he_showed_who_he_is():
    """Long ago, if nobody says: then nothing grave is his to do before he shows it anew."""
    assert shown_ms({"auth_time": NOW}) == NOW * 1000
    assert shown_ms({}) == shown_ms({"auth_time": "x"}) == 0


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["agents", ISSUER, "ivrguard", "n"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*ID, *WHOLE, "azp", "nbf"]), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*ID, *WHOLE, "azp", "nbf", "acr"]), JSON, max_size=12))
def test_whatever_is_claimed_is_judged(claims):
    """Nothing that a provider may say raises; who is known has a role and a name of his own kind."""
    assert isinstance(id_fault(COMPANY, claims, nonce="n", now_s=NOW, since_s=NOW, anew=True), str)
    assert isinstance(access_fault(COMPANY, claims, now_s=NOW), str)
    assert isinstance(shown_ms(claims), int)
    found = agent_of(COMPANY, claims, shown_ms=0)
    assert found is None or (found.roles and found.name.startswith("oidc:") and not found.desk)
