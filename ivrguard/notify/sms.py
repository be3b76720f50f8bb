"""
Text messages out, through Twilio's Messages resource. Implements `ports.Messenger`.

A message is handed over with one request, by its deadline, and nothing of it is in an error: the laws of
notify/rest.py. A message that was taken and has failed already is a fault like one that was refused
(https://www.twilio.com/docs/messaging/api/message-resource). Whether to ask for another code is the caller's business.
"""

from ivrguard.notify.rest import Meaning, Rest, garbled, told

_MEANINGS = {
    21211: Meaning("invalid", "takes the number for none: look at it in the account"),
    21408: Meaning("country_not_allowed", "may not send to this country: see Messaging > Geo permissions"),
    21610: Meaning("opted_out", "may not send to this number: its owner has answered STOP"),
    21612: Meaning("undeliverable", "has no way from this sender to this number"),
    21614: Meaning("landline", "takes the number for one that gets no texts"),
}
"""https://www.twilio.com/docs/api/errors"""
_FAILED = Meaning("undeliverable", "took the message and failed to send it")


class SmsMessenger:
    """
    Sends text messages from one account.

    `from_`: the sending number in E.164 (or a sender name); or `messaging_service_sid` instead: exactly one of them,
    else `ValueError`. `api_url`: where the API is, for tests and for Twilio's regions.
    """

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        from_: str = "",
        *,
        messaging_service_sid: str = "",
        api_url: str = "https://api.twilio.com",
    ) -> None:
        if bool(from_) is bool(messaging_service_sid):
            raise ValueError("messages need a number to come from, or a messaging service: one of the two")
        self._sender = {"from_": from_} if from_ else {"messaging_service_sid": messaging_service_sid}
        self._rest = Rest("message", _MEANINGS)
        self._client = self._rest.client(account_sid, auth_token)
        self._client.api.base_url = api_url

    async def send(self, to: str, text: str, *, deadline_s: float) -> None:
        """
        Hand `text` to the carrier for `to` (E.164).

        Raises `core.errors.NotifyFault` if it was refused, or not taken for certain by the deadline; the message may
        then arrive all the same.
        """
        async with self._rest.asking(deadline_s):
            taken = await self._client.messages.create_async(to=to, body=text, **self._sender)
        if not taken.sid:
            raise garbled()
        if str(taken.status) in {"failed", "undelivered"}:
            raise told(taken.error_code, _FAILED)

    async def close(self) -> None:
        """Close the connections; call it when nothing is under way any more."""
        await self._rest.close()
