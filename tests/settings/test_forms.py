"""Settings that are one text: what is read from it; the settings that they are of: test_init.py."""

import pytest

from ivrguard.settings import forms


@pytest.mark.parametrize(
    ("read", "text", "found"),
    [
        (forms.url, "https://guard.example/", "https://guard.example"),
        (forms.url, "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        (forms.base, "https://bank.example/guard/", "https://bank.example/guard"),
        (forms.collector, "http://collector:4318/", "http://collector:4318"),
        (forms.store, "sqlite:x", "sqlite:x"),
        (forms.database, "postgres://u@h/d", "postgres://u@h/d"),
        (forms.numbers, "+18005550155; +18005550156", ("+18005550155", "+18005550156")),
        (forms.sender, "12345", "12345"),
        (forms.issuer, "https://login.example/a/", "https://login.example/a/"),
        (forms.scopes, "openid  email", "openid email"),
    ],
)
def test_what_is_read(read, text, found):
    assert read(text) == found


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (forms.url, "https://guard.example/x", "only scheme and host"),
        (forms.base, "http://bank.example", "https is needed"),
        (forms.base, "https://u:p@bank.example", "no absolute URL"),
        (forms.base, "https://[", "no absolute URL"),
        (forms.store, "sqlite:", "it is sqlite:<file>"),
        (forms.database, "mysql://canary", "does not begin with"),
        (forms.numbers, "canary", "entry 1 is no phone number"),
        (forms.sender, "canary", "neither a phone number"),
        (forms.issuer, "http://login.example", "https is needed"),
        (forms.scopes, "email", "'openid' is not among the scopes"),
    ],
)
def test_what_cannot_be_read_is_not_shown(read, text, said):
    with pytest.raises(ValueError, match=said) as caught:
        read(text)
    assert "canary" not in str(caught.value)
