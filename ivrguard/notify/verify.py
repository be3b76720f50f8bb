"""
Codes through Twilio Verify, which makes, sends and judges them. Implements `ports.Verifications`.

1. **A code belongs to one call and one intent.** Verify sends the same code again while a verification is pending, so
   the pending one is canceled before a new code is asked for. With that, Verify's limit of five sends begins anew
   (https://www.twilio.com/blog/test-verify-no-rate-limits): how often a code goes out is the guard's own limit.
2. **Judged by id**, never by number, and by `status` alone: `valid` is a legacy property
   (https://www.twilio.com/docs/verify/api/verification-check). An approval must name the verification asked about.
3. **Nobody learns who exists.** Without a verification, the same request is made about an id that was made up.
4. **What is not live is wrong.** Verify forgets a verification that has expired, was canceled, or was approved before
   (404, 20404), and refuses a code that is none (60200): then nothing is right, and the guess counts. Only where the
   service will not judge (five checks are used up, an outage) is there a fault.
5. The laws of notify/rest.py. The number stands in the path of Verify's own URL for canceling, which nothing logs.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from twilio.base import values

from ivrguard.core.errors import NotifyFault
from ivrguard.notify.rest import NOT_FOUND, Meaning, Refused, Rest, e164, garbled, told
from ivrguard.ports import Right, Verdict, Wrong

NOTHING_BYTES = 16

_INVALID = 60200
_CHECKS_USED_UP = 60202
_MEANINGS = {
    NOT_FOUND: Meaning("account", "knows no such Verify Service in this account: check the service's SID"),
    60006: Meaning("invalid", "takes the number for one that is not in use: look at it in the account"),
    _INVALID: Meaning(
        "invalid",
        "refused a parameter: check the number in the account (To) and that the service sends texts (Channel)",
    ),
    60201: Meaning("template", "has not approved the template in this language"),
    _CHECKS_USED_UP: Meaning("too_many_checks", "has judged five guesses of this code and judges no more"),
    60203: Meaning("too_many_sends", "has sent this code five times and sends it no more for ten minutes"),
    60205: Meaning("landline", "takes the number for a landline, which gets no texts"),
    60224: Meaning("template", "found no place for `intent` in the template, or one that stays empty"),
    60238: Meaning(
        "blocked", "blocks this verification: the account is under review, or the country not allowed"
    ),
    60410: Meaning(
        "prefix_blocked", "blocks this prefix for up to 12 hours: Fraud Guard takes it for pumped"
    ),
    60412: Meaning("blocked", "blocks this verification as a fraudulent sign-up"),
    60605: Meaning("country_not_allowed", "may not send to this country: see Verify > Geo permissions"),
}
"""https://www.twilio.com/docs/verify/api/error-codes"""
_NO_LIVE_CODE = frozenset({NOT_FOUND, _INVALID})
_OVER = frozenset({"pending", "canceled", "expired", "deleted", "failed"})
"""Every status of a check but `approved` and `max_attempts_reached`: the code was wrong, or there is none."""

LOCALES = (
    *(
        "af",
        "ar",
        "ca",
        "cs",
        "da",
        "de",
        "el",
        "en",
        "en-GB",
        "es",
        "et",
        "fi",
        "fr",
        "he",
        "hi",
        "hr",
        "hu",
        "id",
    ),
    *(
        "it",
        "ja",
        "kn",
        "ko",
        "lt",
        "mr",
        "ms",
        "nb",
        "nl",
        "pl",
        "pt",
        "pt-BR",
        "ro",
        "ru",
        "sk",
        "sv",
        "te",
        "th",
    ),
    *("tl", "tr", "uk", "vi", "zh", "zh-CN", "zh-HK"),
)
"""What Verify's messages can be in (https://www.twilio.com/docs/verify/supported-languages)."""
_BY_TAG = {locale.lower(): locale for locale in LOCALES} | {
    "fil": "tl",
    "nn": "nb",
    "no": "nb",
    "zh-hant": "zh-HK",
    "zh-mo": "zh-HK",
    "zh-tw": "zh-HK",
}


class TwilioVerify:
    """
    One Verify Service of one account.

    `chance`: n random bytes. `template_sid`: a template of the account's own with `{{intent}}` in it, so that the
    message says what the code is for; "" for the service's own words, which do not. `api_url`: where the API is.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        service_sid: str,
        *,
        chance: Callable[[int], bytes],
        template_sid: str = "",
        api_url: str = "https://verify.twilio.com",
    ) -> None:
        self._chance = chance
        self._template_sid = template_sid
        self._rest = Rest("verification", _MEANINGS)
        client = self._rest.client(account_sid, auth_token)
        client.verify.base_url = api_url
        # The library says `Status` where its own constants are text.
        self._service: Any = client.verify.v2.services(service_sid)

    async def start(self, to: str, *, again: bool, intent: str, language: str, deadline_s: float) -> str:
        """
        Have a code sent to `to` (E.164); the verification's id. `again`: the pending one's code once more.

        Raises `core.errors.NotifyFault` if it was refused, or not taken for certain by the deadline. A pending code
        that could not be ended is a fault, too: the new one would be the same.
        """
        number = e164(to)
        async with self._rest.asking(deadline_s):
            if not again:
                await self._end(number)
            taken = await self._create(number, intent, locale_of(language))
        if not re.fullmatch("VE[0-9a-f]{32}", str(taken.sid)) or taken.status != "pending":
            raise garbled()
        return str(taken.sid)

    async def _end(self, number: str) -> None:
        """End the number's pending verification, if there is one."""
        try:
            await self._service.verifications(number).update_async(status="canceled")
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise

    async def _create(self, number: str, intent: str, locale: str | None) -> Any:
        asked: dict[str, Any] = {"to": number, "channel": "sms"}
        if self._template_sid:
            asked["template_sid"] = self._template_sid
            asked["template_custom_substitutions"] = json.dumps({"intent": intent})
        try:
            return await self._service.verifications.create_async(**asked, locale=locale or values.unset)
        except Refused as refused:
            if refused.status != 404 or locale is None:
                raise
        # Nothing was sent: a language that a template has not got is a 404, and Twilio's page on languages
        # recommends to ask again without one.
        return await self._service.verifications.create_async(**asked)

    async def check(self, verification: str | None, digits: str, *, deadline_s: float) -> Verdict:
        """
        Whether `digits` are the code of `verification`; None: `Wrong`, after the same work.

        Raises `core.errors.NotifyFault` when the service did not judge.
        """
        about = verification or "VE" + self._chance(NOTHING_BYTES).hex()
        async with self._rest.asking(deadline_s):
            try:
                found = await self._service.verification_checks.create_async(
                    verification_sid=about, code=digits
                )
            except Refused as refused:
                if refused.code in _NO_LIVE_CODE:
                    return Wrong()
                raise
        status = str(found.status)
        if status == "approved" and found.sid == about:
            return Right() if verification else Wrong()
        if status == "max_attempts_reached":
            raise told(_CHECKS_USED_UP, _MEANINGS[_CHECKS_USED_UP])
        if status not in _OVER:
            raise garbled()
        return Wrong()

    async def ready(self, digits: int, *, deadline_s: float) -> str | None:
        """What keeps a flow with codes of so many digits from working with this service, or None."""
        try:
            async with self._rest.asking(deadline_s):
                service = await self._service.fetch_async()
        except NotifyFault as fault:
            return str(fault)
        if service.code_length == digits:
            return None
        return (
            f"the Verify Service makes codes of {service.code_length} digits, and the flow asks for {digits}"
        )

    async def close(self) -> None:
        """Close the connections; call it when nothing is under way any more."""
        await self._rest.close()


def locale_of(language: str) -> str | None:
    """The nearest language of Verify's to a tag such as es-US, by taking subtags off its end (RFC 4647, 3.4)."""
    tag = language.lower().replace("_", "-")
    while tag:
        if tag in _BY_TAG:
            return _BY_TAG[tag]
        tag = tag.rpartition("-")[0]
    return None
