"""Two spellings of one number or address are one target; what is neither stays as it is."""

import pytest

from ivrguard.telephony.targets import address_of, number_of


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("+1 (800) 555-0142", "+18005550142"),
        ("1.800.555.0142", "18005550142"),
        ("800 CALL NOW", "800 CALL NOW"),
        ("", ""),
    ],
)
def test_a_number_without_its_punctuation(written, meant):
    assert number_of(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sip:desk@PBX.example", "sip:desk@pbx.example"),
        ("SIPS:desk:password@pbx.example;transport=tls?X-A=1", "sips:desk@pbx.example"),
        ("desk@pbx.example", "sip:desk@pbx.example"),
        ("pbx.example", "sip:pbx.example"),
    ],
)
def test_an_address_without_what_is_no_part_of_it(written, meant):
    assert address_of(written) == meant
