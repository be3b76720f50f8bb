"""A pretend Twilio Messages API: it takes text messages, keeps them, and fails when told to.

Laws of this file
 1. `POST /2010-04-01/Accounts/{Sid}/Messages.json`, HTTP Basic, a form with `To`, `From` or
    `MessagingServiceSid`, and `Body`; 201 with a message in Twilio's shape, errors in Twilio's shape
    (https://www.twilio.com/docs/messaging/api/message-resource , codes https://www.twilio.com/docs/api/errors).
 2. What it answered 201 is in `sent`, and nothing else is.
 3. Faults are planted as phone/rest.py says.
"""

import re
from dataclasses import dataclass, field

from aiohttp import web

from ivrguard.phone.rest import Api, date, error, sid

BODY_CHARACTERS_MAX = 1600
"""A longer Body is error 21617."""


@dataclass(frozen=True, slots=True)
class Message:
    """One text message that was sent. `body` may hold a code, so it does not show in a repr."""

    to: str
    body: str = field(repr=False)
    sender: str = ""


class Messages(Api):
    """The API of one account; `app()` serves it. `sent`: the messages, in order."""

    def __init__(self, account_sid: str, auth_token: str, *, api_keys: dict[str, str] | None = None) -> None:
        super().__init__(account_sid, auth_token, api_keys=api_keys)
        self.sent: list[Message] = []

    def app(self) -> web.Application:
        """The API as an application of its own."""
        served = web.Application()
        served.router.add_post("/2010-04-01/Accounts/{account}/Messages.json", self.serving(self._post))
        return served

    def code_for(self, number: str) -> str:
        """The code in the last message sent to `number`: the last run of four digits or more in it.

        Raises `LookupError` when no message with a code went there.
        """
        for message in reversed(self.sent):
            if message.to == number and (codes := re.findall(r"[0-9]{4,}", message.body)):
                return str(codes[-1])
        raise LookupError(f"no code was sent to {number}")

    def _post(self, _: web.Request, form: dict[str, str]) -> web.Response:
        refused = _refusal(form)
        if refused is not None:
            return refused
        message = Message(form["To"], form["Body"], form.get("From") or form["MessagingServiceSid"])
        self.sent.append(message)
        return web.json_response(self._resource(form), status=201)

    def _resource(self, form: dict[str, str]) -> dict[str, object]:
        message_sid = sid("SM")
        now = date()
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Messages/{message_sid}"
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "body": form["Body"],
            "date_created": now,
            "date_sent": None,
            "date_updated": now,
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": form.get("From"),
            "messaging_service_sid": form.get("MessagingServiceSid"),
            "num_media": "0",
            "num_segments": "1",
            "price": None,
            "price_unit": "USD",
            "sid": message_sid,
            "status": "queued",
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": form["To"],
            "uri": f"{uri}.json",
        }


def _refusal(form: dict[str, str]) -> web.Response | None:
    """What is wrong with a message, if anything."""
    if not form.get("To"):
        return error(400, 21604, "A 'To' phone number is required.")
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", form["To"]):
        return error(400, 21211, "Invalid 'To' Phone Number")
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return error(400, 21603, "A 'From' phone number is required.")
    if not form.get("Body"):
        return error(400, 21602, "Message body is required.")
    if len(form["Body"]) > BODY_CHARACTERS_MAX:
        return error(400, 21617, "The concatenated message body exceeds the 1600 character limit")
    return None
