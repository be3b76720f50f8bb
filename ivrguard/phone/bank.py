"""A sample IVR: a bank's telephone line, written with the twilio library as its own samples are (ivr.py).

It has the habits that a proxy must live with: an `action` relative without a slash, a Gather without one, documents
that go on behind a Gather, status callbacks, a queue with a wait document.

    /voice  main menu      /menu  its answer      /balance  /hours  /fraud  /agent  /after  /wait
    /wire/amount  /wire/confirm                   /voicemail  /voicemail/done     /events  /status
"""

# mypy: disable-error-code="no-untyped-call"
# The twilio library has no types, and almost every line below calls it.

import json
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web
from multidict import MultiDict
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from ivrguard.phone.ivr import Ivr, Page

WORKFLOW_SID = "WW" + "a1" * 16
AGENT_NUMBER = "+18005550142"
AGENT_CLIENT = "ada"
AGENT_SIP = "sip:agents@pbx.bank.example"
AGENT_ROOM = "front-desk"
AGENT_QUEUE = "support"
FRAUD_QUEUE = "fraud-line"
BALANCE_DOLLARS = 1_234


@dataclass(slots=True)
class Bank(Ivr):
    """The bank. `transfer`: how it reaches its agents. `wired`: the amounts that left it."""

    transfer: Literal["workflow", "queue", "number", "client", "sip", "conference"] = "workflow"
    wired: list[str] = field(default_factory=list)

    def pages(self) -> dict[str, Page]:
        """Its documents, by path."""
        return {
            "/voice": self._voice,
            "/menu": self._menu,
            "/balance": self._balance,
            "/hours": self._hours,
            "/wire/amount": self._amount,
            "/wire/confirm": self._confirm,
            "/agent": self._agent,
            "/fraud": self._fraud,
            "/wait": self._wait,
            "/after": self._after,
            "/voicemail": self._voicemail,
            "/voicemail/done": self._recorded,
        }

    # ---- documents --------------------------------------------------------------------------------------

    def _voice(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        """The main menu. Its action is relative, without a slash."""
        del params
        greeting = "Main menu." if session else "Welcome to Example Bank."
        session["greeted"] = "yes"
        response = VoiceResponse()
        gather = Gather(action="menu", num_digits=1, timeout=6)
        gather.say(
            f"{greeting} For your balance, press 1. For our opening hours, press 2. To wire money, press 3. "
            "If your card is being misused, press 9. To talk to somebody, press 0."
        )
        response.append(gather)
        response.say("We did not hear you.")
        response.redirect("/voice")
        return response

    def _menu(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del session
        response = VoiceResponse()
        choices = {"1": "balance", "2": "hours", "3": "wire/amount", "9": "fraud", "0": "agent"}
        choice = choices.get(params.get("Digits", ""))
        if choice is None:
            response.say("That is not one of the choices.")
        response.redirect(choice or "voice")
        return response

    def _balance(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        response = VoiceResponse()
        response.say(f"Your balance is {BALANCE_DOLLARS} dollars.")
        response.redirect("/voice")
        return response

    def _hours(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        response = VoiceResponse()
        response.say("We are open from nine to five, Monday to Friday.")
        response.redirect("/voice")
        return response

    def _amount(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        """Ask for an amount with a Gather that has no action: the answer comes to this same document."""
        response = VoiceResponse()
        amount = params.get("Digits", "")
        if amount.isdecimal():
            session["amount"] = amount
            gather = Gather(action="confirm", num_digits=1)
            gather.say(f"To wire {amount} dollars, press 1. To cancel, press 2.")
        else:
            gather = Gather(timeout=10)
            gather.say("How many dollars do you want to wire? Finish with the pound key.")
        response.append(gather)
        response.say("Nothing was wired.")
        response.redirect("/voice")
        return response

    def _confirm(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        """The wire, for whoever's session it is: without the cookie there is no amount."""
        response = VoiceResponse()
        amount = session.pop("amount", None)
        if amount is not None and params.get("Digits") == "1":
            self.wired.append(amount)
            response.say(f"{amount} dollars are on their way.")
        else:
            response.say("Nothing was wired.")
        response.redirect("/voice")
        return response

    def _agent(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        """To an agent, in the way of this bank."""
        del session
        response = VoiceResponse()
        response.say("One moment, please.")
        if self.transfer == "workflow":
            task = {"type": "voice", "language": "en", "caller": params.get("From", "")}
            queue = response.enqueue(None, workflow_sid=WORKFLOW_SID, action="/after", wait_url="/wait")
            queue.task(json.dumps(task), priority=5)
            return response
        if self.transfer == "queue":
            response.enqueue(AGENT_QUEUE, action="/after", wait_url="/wait")
            return response
        dial = Dial(action="/after", timeout=20)
        match self.transfer:
            case "number":
                dial.number(
                    AGENT_NUMBER, status_callback="/events", status_callback_event="answered completed"
                )
            case "client":
                dial.client(AGENT_CLIENT).parameter(name="reason", value="menu")
            case "sip":
                dial.sip(f"{AGENT_SIP}?X-Reason=menu")
            case _:
                dial.conference(AGENT_ROOM, wait_url="/wait")
        response.append(dial)
        return response

    def _fraud(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        response = VoiceResponse()
        response.enqueue(FRAUD_QUEUE, wait_url="/wait")
        return response

    def _wait(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        response = VoiceResponse()
        response.say("All our agents are busy. Please hold.")
        response.pause(length=10)
        return response

    def _after(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        """After the agent, or instead of one."""
        del session
        response = VoiceResponse()
        outcome = params.get("QueueResult") or params.get("DialCallStatus")
        if outcome in {"bridged", "completed", "answered"} and params.get("DialBridged") != "false":
            response.say("Thank you for calling Example Bank.")
            response.hangup()
        else:
            response.say("Nobody is free right now.")
            response.redirect("/voicemail")
        return response

    def _voicemail(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        response = VoiceResponse()
        response.say("Please leave a message after the tone.")
        response.record(action="/voicemail/done", max_length=60, recording_status_callback="/events")
        response.say("You left no message. Goodbye.")
        return response

    def _recorded(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        response = VoiceResponse()
        response.say("We will call you back. Goodbye.")
        response.hangup()
        return response


def app(auth_token: str) -> web.Application:
    """The IVR of a bank with the usual settings."""
    return Bank().app(auth_token)
