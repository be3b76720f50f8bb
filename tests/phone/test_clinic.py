"""The sample clinic, called by the pretend Twilio without any guard between them. With one: the demo's last scene."""

import pytest

from ivrguard.phone import clinic
from ivrguard.phone.heard import Dialled, Said

AUTH_TOKEN = "a-token-of-the-test"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("1",), "pacientes nuevos es el lunes a las nueve. Para pedir una cita"),
        (("2",), "Estamos en la calle Olmo"),
        (("3",), "Su análisis de sangre"),
        (("7",), "Gracias por llamar a la Clínica Ejemplo. Para pedir una cita"),
        (("", "1"), "pacientes nuevos"),
    ],
)
async def test_the_menu(samples, keys, words):
    """What a caller of the clinic can do; the greeting comes once."""
    example = clinic.Clinic()
    line = await samples.serve(example.app(AUTH_TOKEN))
    await samples.press(line, *keys)

    assert words in samples.said(line)
    assert samples.said(line).count("Gracias") == 1
    assert {event.language for event in line.heard if isinstance(event, Said)} == {"es-US"}


@pytest.mark.parametrize(("key", "number"), [("0", clinic.DESK_NUMBER), ("9", clinic.NURSE_NUMBER)])
async def test_people_are_dialled(samples, key, number):
    """At plain telephones; the menu comes again when they have hung up."""
    line = await samples.serve(clinic.app(AUTH_TOKEN))
    await samples.press(line, key)
    (dialled,) = [event for event in line.heard if isinstance(event, Dialled)]
    await line.agent_hangs_up()

    assert [target.name for target in dialled.targets] == [number]
    assert samples.said(line).count("Para pedir una cita") == 2
