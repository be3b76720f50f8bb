"""A pretend Twilio Verify: one Service that makes codes, sends them as text messages, and judges them.

Laws of this file
 1. `POST /v2/Services/{VA}/Verifications` (To, Channel=sms, Locale, TemplateSid, TemplateCustomSubstitutions),
    `POST …/Verifications/{VE or To}` (Status), `POST …/VerificationCheck` (VerificationSid or To, and Code), and
    `GET /v2/Services/{VA}`, in Twilio's shapes (https://www.twilio.com/docs/verify/api/verification).
 2. A verification lives `VALID_S` from its first send; while it is pending, another send has the same id and code.
    `SENDS_MAX` sends, then 60203; `CHECKS_MAX` checks, then 60202
    (https://www.twilio.com/docs/verify/api/rate-limits-and-timeouts).
 3. What has expired, was canceled or approved is gone: 404, 20404
    (https://www.twilio.com/docs/verify/api/verification-check).
 4. A wrong code is an answer of 200 with `pending`.
 5. What it sends lands in `sent`, which may be the list of the pretend Messages API; faults as phone/rest.py says.
"""

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest

from aiohttp import web

from ivrguard.phone.messages import Message
from ivrguard.phone.rest import Api, error, instant, not_found, sid

VALID_S = 600
SENDS_MAX = 5
CHECKS_MAX = 5
SERVICE_SID = "VA" + "5e" * 16
TEMPLATE_SID = "HJ" + "5e" * 16
"""A template that says the intent."""

_WORDS = {
    "en": "Your Example Bank verification code is: {{code}}",
    "en-GB": "Your Example Bank verification code is: {{code}}",
    "es": "Tu codigo de verificacion de Example Bank es: {{code}}",
}
_TEMPLATE_WORDS = {
    "en": "Example Bank: {{code}} is your code for: {{intent}}. Nobody of ours will ask you for it.",
    "es": "Example Bank: {{code}} es su codigo para: {{intent}}. Nadie de los nuestros se lo pedira.",
}
_STATUSES = {"approved", "canceled"}


@dataclass(slots=True)
class _Verification:
    """One that was begun. `code` does not show in a repr."""

    sid: str
    to: str
    code: str = field(repr=False)
    began_ms: int
    status: str = "pending"
    sends: int = 0
    checks: int = 0


class Verify(Api):
    """The API of one account with one Service; `app()` serves it.

    `clock`: ms since the epoch. `sent`: the messages, in order. `code_length`: of new codes. `templates`: words by
    language, by template SID, with `{{code}}` and what else is substituted.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        clock: Callable[[], int],
        sent: list[Message] | None = None,
        *,
        service_sid: str = SERVICE_SID,
        code_length: int = 6,
        api_keys: dict[str, str] | None = None,
    ) -> None:
        super().__init__(account_sid, auth_token, api_keys=api_keys)
        self.sent = sent if sent is not None else []
        self.service_sid = service_sid
        self.code_length = code_length
        self.templates = {TEMPLATE_SID: _TEMPLATE_WORDS}
        self._clock = clock
        self._verifications: dict[str, _Verification] = {}

    def app(self) -> web.Application:
        """The API as an application of its own."""
        served = web.Application()
        service = f"/v2/Services/{self.service_sid}"
        served.router.add_get(service, self.serving(self._service))
        served.router.add_post(f"{service}/Verifications", self.serving(self._start))
        served.router.add_post(f"{service}/Verifications/{{which}}", self.serving(self._update))
        served.router.add_post(f"{service}/VerificationCheck", self.serving(self._check))
        served.router.add_route("*", "/{other:.*}", self.serving(lambda request, _: not_found(request)))
        return served

    def _live(self, which: str) -> _Verification | None:
        """The verification of this id or number that is pending and has not expired."""
        for one in self._verifications.values():
            in_time = self._clock() - one.began_ms < VALID_S * 1000
            if which in {one.sid, one.to} and one.status == "pending" and in_time:
                return one
        return None

    def _service(self, _: web.Request, __: dict[str, str]) -> web.Response:
        return web.json_response(
            {
                "sid": self.service_sid,
                "account_sid": self.account_sid,
                "friendly_name": "Example Bank",
                "code_length": self.code_length,
            }
        )

    def _start(self, request: web.Request, form: dict[str, str]) -> web.Response:
        to = form.get("To", "")
        if not re.fullmatch(r"\+[1-9][0-9]{6,14}", to):
            return error(400, 60200, f"Invalid parameter `To`: {to}")
        if form.get("Channel") != "sms":
            return error(400, 60200, f"Invalid parameter `Channel`: {form.get('Channel')}")
        template = form.get("TemplateSid")
        by_language = self.templates.get(template) if template else _WORDS
        words = by_language and by_language.get(form.get("Locale", "en"))
        if not words:
            return not_found(request)
        given = json.loads(form.get("TemplateCustomSubstitutions", "{}"))
        if set(re.findall(r"\{\{(\w+)\}\}", words)) - {"code"} - {name for name in given if given[name]}:
            return error(400, 60224, "Missing substitutions for selected template")
        one = self._live(to) or self._begin(to)
        if one.sends >= SENDS_MAX:
            return error(429, 60203, f"Max send attempts reached: {to}")
        one.sends += 1
        for name, value in (given | {"code": one.code}).items():
            words = words.replace(f"{{{{{name}}}}}", str(value))
        self.sent.append(Message(to, words, self.service_sid))
        return web.json_response(self._resource(one), status=201)

    def _begin(self, to: str) -> _Verification:
        code = "".join(secrets.choice("0123456789") for _ in range(self.code_length))
        one = _Verification(sid("VE"), to, code, self._clock())
        self._verifications[one.sid] = one
        return one

    def _update(self, request: web.Request, form: dict[str, str]) -> web.Response:
        one = self._live(request.match_info["which"])
        if one is None:
            return not_found(request)
        if form.get("Status") not in _STATUSES:
            return error(400, 60200, f"Invalid parameter `Status`: {form.get('Status')}")
        one.status = form["Status"]
        return web.json_response(self._resource(one))

    def _check(self, request: web.Request, form: dict[str, str]) -> web.Response:
        code = form.get("Code", "")
        if not re.fullmatch("[0-9]{4,10}", code):
            return error(400, 60200, "Invalid parameter `Code`")
        one = self._live(form.get("VerificationSid") or form.get("To", ""))
        if one is None:
            return not_found(request)
        if one.checks >= CHECKS_MAX:
            return error(429, 60202, "Max check attempts reached")
        one.checks += 1
        if compare_digest(one.code, code):
            one.status = "approved"
        return web.json_response(self._resource(one), status=201)

    def _resource(self, one: _Verification) -> dict[str, object]:
        now = instant(self._clock())
        return {
            "sid": one.sid,
            "service_sid": self.service_sid,
            "account_sid": self.account_sid,
            "to": one.to,
            "channel": "sms",
            "status": one.status,
            "valid": one.status == "approved",
            "amount": None,
            "payee": None,
            "lookup": {},
            "send_code_attempts": [
                {"time": now, "channel": "SMS", "attempt_sid": None} for _ in range(one.sends)
            ],
            "sna": None,
            "date_created": instant(one.began_ms),
            "date_updated": now,
            "url": f"https://verify.twilio.com/v2/Services/{self.service_sid}/Verifications/{one.sid}",
        }
