"""
What an identity provider says of somebody, and when it is believed.

The laws of this file:

1. A token is for us, of the provider that we asked, of now, and the answer to what we asked (OpenID Connect Core 1.0, 3.1.3.7; RFC 9068,
   4; RFC 8725, 3.8 to 3.12): issuer, audience, authorized party, times, nonce, and where somebody was to show anew who he is,
   `auth_time`. `id_fault` and `access_fault` say what is missing, for the record alone.
2. Who has none of the roles that are mapped is nobody here, whoever he is there (`agent_of`): no role is a default.
3. A claim that has not the form it should have gives nothing: it is no fault, and nothing is guessed.
4. Nobody is named by what he can change himself: the name is the subject (`sub`), never an address or a nickname.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ivrguard.core.agents import COMPANYS, Agent, Role
from ivrguard.core.rules import TARGET_KINDS

SKEW_S = 60
"""How far the provider's clock may be off ours."""
ID_AGE_S = 600
"""An ID token is read a moment after it was made; how old it may be at most."""
SUBJECT_CHARS_MAX = 255
LABEL_CHARS_MAX = 80
VALUES_MAX = 256

STARS_MAX = 3
"""Of a queue's glob: more take a matcher long."""

_QUEUE = re.compile(r"[\x20-\x7e]{1,200}")

Claims = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Company:
    """
    The company's identity provider as it is set here.

    `issuer`: to the letter. `audience`: of bearer tokens for the API, "" where there are none. `roles`: value of a claim -> role.
    Names of claims may lead into others with a dot, such as `realm_access.roles`. `acr`: if any, one of these must be said of a log-in.
    """

    issuer: str
    client_id: str
    audience: str = ""
    roles_claim: str = "roles"
    roles: Mapping[str, Role] = field(default_factory=dict)
    queues_claim: str = "queues"
    manager_claim: str = "manager"
    label_claim: str = "name"
    acr: tuple[str, ...] = ()


def id_fault(
    company: Company, claims: Claims, *, nonce: str, now_s: int, since_s: int, anew: bool = False
) -> str:
    """
    Why an ID token is not believed; "" if it is.

    `nonce`: what was sent along. `since_s`: he must have shown who he is since then, if the provider says when; `anew`: it must say.
    """
    if claims.get("iss") != company.issuer:
        return "issuer"
    audience, party = _texts(claims.get("aud")), claims.get("azp")
    if company.client_id not in audience:
        return "audience"
    if (party is None and len(audience) > 1) or party not in {None, company.client_id}:
        return "party"
    if fault := _time_fault(claims, now_s):
        return fault
    made_s = _number(claims.get("iat"))
    if made_s is None or now_s - made_s > ID_AGE_S + SKEW_S:
        return "issued"
    if not nonce or claims.get("nonce") != nonce:
        return "nonce"
    if company.acr and claims.get("acr") not in company.acr:
        return "acr"
    shown_s = _number(claims.get("auth_time"))
    if (shown_s is None and anew) or (shown_s is not None and shown_s < since_s - SKEW_S):
        return "auth_time"
    return ""


def access_fault(company: Company, claims: Claims, *, now_s: int) -> str:
    """Why a bearer token for the API is not believed; "" if it is."""
    if claims.get("iss") != company.issuer:
        return "issuer"
    if not company.audience or company.audience not in _texts(claims.get("aud")):
        return "audience"
    return _time_fault(claims, now_s)


def agent_of(company: Company, claims: Claims, *, shown_ms: int) -> Agent | None:
    """Who it is; None for somebody who has no role here, or no name that a record could have."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARS_MAX or not _is_plain(subject):
        return None
    given = _texts(_at(claims, company.roles_claim))
    roles = frozenset(company.roles[one] for one in given if one in company.roles)
    if not roles:
        return None
    queues = tuple(dict.fromkeys(one for one in _texts(_at(claims, company.queues_claim)) if _is_queue(one)))
    manager, label = _at(claims, company.manager_claim), _at(claims, company.label_claim)
    return Agent(
        name=COMPANYS + subject,
        label=label[:LABEL_CHARS_MAX] if isinstance(label, str) and label.isprintable() else "",
        roles=roles,
        queues=queues,
        manager=COMPANYS + manager if isinstance(manager, str) and manager and _is_plain(manager) else "",
        shown_ms=shown_ms,
    )


def shown_ms(claims: Claims) -> int:
    """When he showed the provider who he is, ms since the epoch; long ago if it does not say."""
    at_s = _number(claims.get("auth_time"))
    return at_s * 1000 if at_s is not None else 0


def _time_fault(claims: Claims, now_s: int) -> str:
    ends_s, from_s, made_s = (_number(claims.get(name)) for name in ("exp", "nbf", "iat"))
    if ends_s is None or ends_s <= now_s - SKEW_S:
        return "expired"
    if "nbf" in claims and (from_s is None or from_s > now_s + SKEW_S):
        return "not_yet"
    if "iat" in claims and (made_s is None or made_s > now_s + SKEW_S):
        return "issued"
    return ""


def _at(claims: Claims, path: str) -> object:
    """The claim of that name; a name with dots leads into claims of claims, unless one is called just so."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _texts(value: object) -> tuple[str, ...]:
    """A list of texts, or one text alone."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return tuple(one for one in value[:VALUES_MAX] if isinstance(one, str))
    return ()


def _number(value: object) -> int | None:
    """A time in seconds (RFC 7519, 2: it may have a fraction); None for what is none, or beyond all calendars."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        return None
    return int(value)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_queue(text: str) -> bool:
    kind, colon, _ = text.partition(":")
    known = text == "*" or (colon and kind in TARGET_KINDS)
    return bool(known) and _QUEUE.fullmatch(text) is not None and text.count("*") <= STARS_MAX
