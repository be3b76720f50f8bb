"""A sample IVR: a clinic's telephone line, in Spanish (ivr.py).

Its menu is for anyone, and what each key leads to has a path of its own, so that a flow can tell them apart.

    /voice  main menu      /menu  its answer      /appointments/new      /directions      /results      /desk      /pain
"""

# mypy: disable-error-code="no-untyped-call"
# The twilio library has no types, and almost every line below calls it.

from dataclasses import dataclass

from aiohttp import web
from multidict import MultiDict
from twilio.twiml.voice_response import Dial, Gather, VoiceResponse

from ivrguard.phone.ivr import Ivr, Page

LANGUAGE, VOICE = "es-US", "Polly.Lupe"
DESK_NUMBER = "+18005550153"
NURSE_NUMBER = "+18005550151"


@dataclass(slots=True)
class Clinic(Ivr):
    """The clinic."""

    def pages(self) -> dict[str, Page]:
        """Its documents, by path."""
        return {
            "/voice": self._voice,
            "/menu": self._menu,
            "/appointments/new": self._appointment,
            "/directions": self._directions,
            "/results": self._results,
            "/desk": self._desk,
            "/pain": self._pain,
        }

    def _voice(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        """The main menu."""
        del params
        greeting = "" if session else "Gracias por llamar a la Clínica Ejemplo. "
        session["greeted"] = "yes"
        response = VoiceResponse()
        gather = Gather(action="/menu", num_digits=1, timeout=6)
        gather.say(
            f"{greeting}Para pedir una cita, oprima 1. Para saber cómo llegar, oprima 2. Para sus resultados, oprima 3. "
            "Si tiene dolor, oprima 9. Para hablar con alguien, oprima 0.",
            language=LANGUAGE,
            voice=VOICE,
        )
        response.append(gather)
        response.redirect("/voice")
        return response

    def _menu(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del session
        choices = {"1": "/appointments/new", "2": "/directions", "3": "/results", "9": "/pain", "0": "/desk"}
        response = VoiceResponse()
        response.redirect(choices.get(params.get("Digits", ""), "/voice"))
        return response

    def _appointment(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        return _says("La primera cita libre para pacientes nuevos es el lunes a las nueve.")

    def _directions(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        return _says("Estamos en la calle Olmo, junto a la estación.")

    def _results(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        return _says("Su análisis de sangre del lunes es normal.")

    def _desk(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        return _dials(DESK_NUMBER)

    def _pain(self, params: MultiDict[str], session: dict[str, str]) -> VoiceResponse:
        del params, session
        return _dials(NURSE_NUMBER)


def _says(words: str) -> VoiceResponse:
    """Words, then the menu."""
    response = VoiceResponse()
    response.say(words, language=LANGUAGE, voice=VOICE)
    response.redirect("/voice")
    return response


def _dials(number: str) -> VoiceResponse:
    """Somebody at a plain telephone, then the menu."""
    response = VoiceResponse()
    dial = Dial(timeout=20)
    dial.number(number)
    response.append(dial)
    response.redirect("/voice")
    return response


def app(auth_token: str) -> web.Application:
    """The IVR of a clinic."""
    return Clinic().app(auth_token)
