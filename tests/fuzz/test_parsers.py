"""
Everything that reads what strangers wrote: a value of its own kind comes out, or a refusal of its own kind, and nothing
else is ever raised. The work has a bound, and what is accepted is whole.
"""

import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ivrguard import flowfile
from ivrguard.core.caller import ADDRESS_CHARS_MAX, address_of, attestation_of, country_prefix
from ivrguard.guard import books
from ivrguard.keyring import key_of
from ivrguard.phone.rig import new_keyring
from ivrguard.telephony import delivery, document, links, signature
from ivrguard.telephony.links import Kind, Links, Refused

FLOWS = Path(__file__).parents[2] / "flows"
GUARD, IVR = "https://guard.example", "https://ivr.example.com"
LINKS = Links(GUARD, f"{IVR}/voice", [], b"k" * 32)
ACCOUNT_SID, TOKEN = "AC" + "5e" * 16, "the-token"
FORM = urlencode(
    {
        "CallSid": "CA" + "0" * 32,
        "AccountSid": ACCOUNT_SID,
        "From": "+15551230001",
        "To": "+18005550100",
        "CallStatus": "in-progress",
        "ApiVersion": "2010-04-01",
        "Direction": "inbound",
        "Digits": "24681357",
        "CallerCity": "São Paulo",
        "StirVerstat": "TN-Validation-Passed-A",
    }
).encode()
REASON = re.compile(r"[a-z_]+(\.[a-z_0-9]+)?")
ORIGIN = re.compile(r"""(?:https?|wss?)://([^/"'<>\s?#&]*)""")
RING = new_keyring()
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def fuzz(*, share=1, **strategies):
    """A property of what is made up here. `share`: of the examples that others get, as an example takes so much longer."""
    fewer = settings(QUIET, max_examples=max(10, settings().max_examples // share))
    return lambda test: fewer(given(**strategies)(test))


# ── forms and signatures ─────────────────────────────────────────────────────────────────────────────────


def forms(data):
    """What comes out of a form's bytes, or the reason why nothing does."""
    try:
        params = delivery.parse_form(data)
        return delivery.read(params, accounts={ACCOUNT_SID})
    except delivery.Malformed as malformed:
        return malformed.reason


def test_a_form_is_a_delivery_or_a_reason(mutations):
    """Whatever is accepted names a call, an account and a status of the forms that they have."""

    @fuzz(data=mutations([FORM]) | st.binary(max_size=300))
    def check(data):
        found = forms(data)
        if isinstance(found, str):
            assert found in delivery.REASONS
        else:
            assert re.fullmatch("CA[0-9a-f]{32}", found.call_sid)
            assert found.account_sid == ACCOUNT_SID
            assert found.digits is None or re.fullmatch(r"[0-9A-D*#]{0,256}|hangup", found.digits)
            assert found.caller.value
            assert country_prefix(found.caller.value)
        assert forms(FORM) != "form.long"

    check()


@fuzz(text=st.text(max_size=ADDRESS_CHARS_MAX + 50))
def test_an_address_is_somebody_or_nobody(text):
    """In one spelling, and never empty."""
    found = address_of(text)
    assert found.value
    assert address_of(found.value) == found
    attestation_of(text)


def test_a_signature_costs_no_more_than_its_bound(mutations, monkeypatch):
    """And holds for nobody who has not the token, whatever the target, the form and the headers are."""
    verifier = signature.Verifier(GUARD, {ACCOUNT_SID: (TOKEN, "an-older-token")})
    made = signature._signature
    count = 0

    def counted(*what):
        nonlocal count
        count += 1
        return made(*what)

    monkeypatch.setattr(signature, "_signature", counted)

    @fuzz(
        target=mutations(
            [b"/voice?x=1&y=%27a%27", b"/.ivrguard/call/" + b"0" * 32, b"/?bodySHA256=" + b"a" * 64]
        ),
        body=mutations([FORM]),
        claimed=st.text(max_size=40),
        header=st.none() | st.text(max_size=60) | st.just("key=a,algorithm=HMAC_SHA1"),
        account=st.none() | st.just(ACCOUNT_SID) | st.text(max_size=40),
        form=st.booleans(),
    )
    def check(target, body, claimed, header, account, form):
        nonlocal count
        count = 0
        try:
            params = delivery.parse_form(body) if form else None
        except delivery.Malformed:
            params = ()
        told = verifier.verify(
            target=target.decode("utf-8", "surrogateescape"),
            params=params,
            body=body,
            signature=claimed,
            settings_header=header,
            account_sid=account,
        )
        assert told is False
        assert count <= signature.HMACS_MAX

    check()


def test_what_is_signed_is_found_signed(mutations):
    """The other side: whatever a form holds, the signature made over it holds."""
    verifier = signature.Verifier(GUARD, {ACCOUNT_SID: (TOKEN,)})

    @fuzz(body=mutations([FORM]))
    def check(body):
        try:
            params = delivery.parse_form(body)
        except delivery.Malformed:
            return
        made = signature.sign(TOKEN, f"{GUARD}/x", params)
        assert verifier.verify(target="/x", params=params, body=body, signature=made, account_sid=ACCOUNT_SID)

    check()


# ── documents and links ──────────────────────────────────────────────────────────────────────────────────


def written(body, content_type, leg=Kind.T):
    """The document as it goes out; None if it was refused, as it should be."""
    try:
        read = document.read(body, content_type, f"{IVR}/voice")
        for site in read.transfers:
            assert read.rest(site.index)
            assert read.carriers(site.index)
        return read.write(LINKS, turn=3, leg=leg)
    except Refused as refused:
        of_its_kind(refused)
        return None


def of_its_kind(refused):
    """A reason that may label a metric, and a detail that may stand in a log."""
    assert REASON.fullmatch(refused.reason), refused.reason
    assert len(refused.detail) < 300


def test_a_document_goes_out_whole_or_not_at_all(mutations, documents):
    """What goes out can be read again, is no longer than the provider takes, and leads nowhere but to the guard."""

    @fuzz(
        body=mutations(documents),
        content_type=st.sampled_from(
            ["text/xml", "application/xml; charset=utf-8", "text/html", "text/plain", "audio/x", "x", None]
        ),
        leg=st.sampled_from([Kind.T, Kind.W, Kind.Q]),
    )
    def check(body, content_type, leg):
        out = written(body, content_type, leg)
        if out is None:
            return
        assert len(out) <= document.DOCUMENT_BYTES_MAX
        again = document.read(out, "text/xml", f"{GUARD}/voice")
        for element in again._root.iter():
            if element.tag not in document._DATA and element.tag in document._LINKS:
                for name in document._LINKS[element.tag]:
                    hosts = ORIGIN.findall(element.get(name, ""))
                    assert set(hosts[:1]) <= {"guard.example"}, (element.tag, name)

    check()


def test_every_real_document_is_read(documents):
    """The corpus is one: most of it goes out, so that mutations begin somewhere."""
    found = [written(body, "text/xml") for body in documents]
    assert len(documents) > 20
    assert sum(one is not None for one in found) >= len(documents) / 4


def test_a_target_is_the_ivrs_or_refused(mutations):
    """What the guard wrote comes back as what was meant; anything else with a MAC is refused."""
    good = (
        LINKS.outward(f"{IVR}/wire/start?a=1", kind=Kind.T, method="POST", turn=3)
        .removeprefix(GUARD)
        .encode()
    )

    @fuzz(data=mutations([good, b"/voice?x=1", b"/.ivrguard/at/host/x", b"/%2e%2e/x"]))
    def check(data):
        target = data.decode("utf-8", "surrogateescape")
        try:
            found = LINKS.inward(target)
        except Refused as refused:
            of_its_kind(refused)
            return
        assert found.url.startswith(f"{IVR}/")
        assert found.path.startswith("/")
        assert found.turn in (None, 3)
        links.kind_of(target)
        assert found.kind is Kind.T

    check()


# ── flow files ───────────────────────────────────────────────────────────────────────────────────────────


def prompts_of(tag):
    return (FLOWS / "prompts" / f"{tag}.yaml").read_bytes()


def whole(loaded):
    """A flow, or faults that say where."""
    assert (loaded.flow is None) == bool(loaded.faults)
    for fault in (*loaded.faults, *loaded.doubts):
        assert fault.line >= 1
        assert fault.column >= 1
        assert fault.message


@pytest.mark.parametrize("name", ["bank", "clinic", "insurer"])
def test_a_flow_file_is_a_flow_or_faults(mutations, name):
    """With a line for each, whatever was done to the file."""
    data = (FLOWS / f"{name}.yaml").read_bytes()

    @fuzz(share=3, data=mutations([data]))
    def check(data):
        whole(flowfile.read("flow.yaml", data, prompts_of))

    check()


def test_a_file_of_prompts_is_a_catalogue_or_faults(mutations):
    data = (FLOWS / "bank.yaml").read_bytes()

    @fuzz(share=3, said=mutations([prompts_of("en-US")]) | st.binary(max_size=60))
    def check(said):
        whole(flowfile.read("flow.yaml", data, lambda _: said))

    check()


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────


@fuzz(
    text=st.text(max_size=70)
    | st.from_regex(r"(CA[0-9a-f]{32}|[0-9]{8}|[0-9A-HJKMNP-TV-Z]{26})", fullmatch=True)
)
def test_what_is_presented_names_one_thing_or_nothing(text):
    """And its name holds nothing of it but a digest, or a CallSid."""
    found = books.alias_key(RING, text)
    if found is not None:
        kind, _, name = found.id.partition(":")
        assert kind in {"call", "token", "code"}
        assert (name == text) == (kind == "call")


def test_a_token_that_was_touched_is_none(mutations):
    """A JWT: every other text is refused, with an error that shows nothing of it."""
    claims = {"iss": "a", "aud": "b", "exp": 2_000_000_000, "sub": "canary-4711"}
    good = RING.sign(claims, typ="x+jwt")

    def read(token):
        return RING.verify(token, typ="x+jwt", iss="a", aud="b", now_ms=1_000_000_000_000)

    assert read(good)["sub"] == "canary-4711"

    @fuzz(data=mutations([good.encode()]) | st.binary(max_size=80))
    def check(data):
        token = data.decode("utf-8", "replace")
        key_of(token)
        if token != good:
            with pytest.raises(ValueError, match="the token does not hold") as fault:
                read(token)
            assert "4711" not in str(fault.value)

    check()


def test_what_was_sealed_and_touched_is_not_opened(mutations):
    good = RING.seal(b"canary-4711", "answer/CA1")
    assert RING.unseal(good, "answer/CA1") == b"canary-4711"

    @fuzz(data=mutations([good.encode()]), purpose=st.sampled_from(["answer/CA1", "answer/CA2", ""]))
    def check(data, purpose):
        sealed = data.decode("utf-8", "replace")
        if (sealed, purpose) != (good, "answer/CA1"):
            with pytest.raises(ValueError, match=r"^(?!.*4711)"):
                RING.unseal(sealed, purpose)

    check()
