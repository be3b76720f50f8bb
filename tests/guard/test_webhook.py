"""x"""

from typing import Any

Centre = Any


async def test_first(centre: Centre):
    line = centre.line()
    await line.dial()
    assert "account number" in line.said
    assert centre.ivr.asked == []
    await line.press("123456789#")
    print(line.body)
    await line.press("24681357")
    print(line.body, line.outcome)
    print(centre.ivr.asked)
    print(await centre.record())
    await line.press("3")
    print(line.body, centre.texts.sent)
