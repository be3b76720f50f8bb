"""
Twilio's recordings of a call, paused while a secret is keyed. Implements `ports.Recordings`.

1. The tones of keys can be worked out from a recording, so every recording of the call that runs is paused, with
   silence in its place, and the same ones go on afterwards
   (https://www.twilio.com/docs/voice/api/recording#update-a-recording-resource).
2. They are listed first, as there may be several; and before they go on, as somebody else may have let one go on or
   ended it meanwhile.
3. **Quiet when there is nothing to pause**: no recording, one that has just ended, no such call any more (20404), no
   call in progress (21220). Everything else is a fault, as a recording may be running on: a call with more recordings
   than one page holds, too.
4. A recording of a *conference* is not one of the call's, and is not found here.
5. The laws of notify/rest.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twilio.base import values
from twilio.rest import Client

from ivrguard.core.errors import NotifyFault
from ivrguard.notify.rest import NOT_FOUND, Refused, Rest, garbled

RECORDINGS_MAX = 150
"""How many recordings of one call are looked at: one page, the newest; and what fits into `rest.ANSWER_BYTES_MAX`."""

_RUNNING, _PAUSED = "in-progress", "paused"
_ENDED = frozenset({"stopped", "processing", "completed", "absent"})
_NOT_IN_PROGRESS = 21220
_OVER = frozenset({NOT_FOUND, _NOT_IN_PROGRESS})


class TwilioRecordings:
    """
    Pauses and resumes recordings for several accounts. `tokens`: AccountSid -> auth token.

    `api_url`: where the API is, for tests and for Twilio's regions.
    """

    def __init__(self, tokens: Mapping[str, str], *, api_url: str = "https://api.twilio.com") -> None:
        self._rest = Rest("recording", {})
        self._clients: dict[str, Client] = {}
        for account_sid, auth_token in tokens.items():
            client = self._rest.client(account_sid, auth_token)
            client.api.base_url = api_url
            self._clients[account_sid] = client

    async def running(self, account_sid: str, call_sid: str, *, deadline_s: float) -> tuple[str, ...]:
        """
        The SIDs of the call's recordings that run now, newest first; none for a call that is over.

        Raises `core.errors.NotifyFault` when there may be others.
        """
        async with self._rest.asking(deadline_s):
            page = await self._page(account_sid, call_sid)
            found = tuple(str(one.sid) for one in page if one.status == _RUNNING)
            more = page and page.next_page_url
        if more:
            raise NotifyFault(
                f"the call has more than {RECORDINGS_MAX} recordings, and not all were looked at"
            )
        return found

    async def pause(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        """
        Pause these recordings of the call; quiet about one that has ended. Harmless twice.

        Raises `core.errors.NotifyFault` when one may be running on all the same.
        """
        every = self._of(account_sid, call_sid)
        async with self._rest.asking(deadline_s):
            for one in recordings:
                await self._update(every(one), _PAUSED, "silence")

    async def resume(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        """Let those of these recordings that are paused go on. Raises as `pause`, when one may not."""
        every = self._of(account_sid, call_sid)
        async with self._rest.asking(deadline_s):
            for one in await self._page(account_sid, call_sid):
                if one.status == _PAUSED and one.sid in recordings:
                    await self._update(every(one.sid), _RUNNING, values.unset)

    def _of(self, account_sid: str, call_sid: str) -> Any:
        client = self._clients.get(account_sid)
        if client is None:
            raise NotifyFault("the call's account has no auth token here", why="account")
        return client.calls(call_sid).recordings

    async def _page(self, account_sid: str, call_sid: str) -> Any:
        """The newest recordings of the call; nothing for a call that is over."""
        try:
            return await self._of(account_sid, call_sid).page_async(page_size=RECORDINGS_MAX)
        except Refused as refused:
            if refused.code in _OVER:
                return ()
            raise

    async def _update(self, recording: Any, new: str, how: object) -> None:
        try:
            answered = await recording.update_async(status=new, pause_behavior=how)
        except Refused as refused:
            if refused.code in _OVER:
                return
            raise
        if answered.status != new and answered.status not in _ENDED:
            raise garbled()

    async def close(self) -> None:
        """Close the connections; call it when nothing is under way any more."""
        await self._rest.close()
