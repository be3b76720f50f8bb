"""
The agents of a story: desks that redeem tokens, have codes read to them, name accounts, pass callers on.

The laws of this file: a desk asks over the agents' API, as its own program would; what stands behind the colon of a line
is what must come of it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ivrguard.phone.rig import Rig
from ivrguard.phone.stage import Scene

SENT, NOTHING = 202, "nothing"


@dataclass
class Desks:
    """The desks of a story, by name. `values`: what `{name}` stands for in keys."""

    at: Rig
    values: Mapping[str, Callable[[], str]]
    keys: dict[str, str] = field(default_factory=dict, repr=False)

    async def serves(self, _: Scene, name: str, queue: str) -> None:
        """`desk NAME serves QUEUE`: such as `workflow:*`, `enqueue:support`, `client:ada`."""
        self.keys[name] = await self.at.desk(name, queue)

    async def redeem(self, scene: Scene, name: str, wanted: str) -> None:
        """`redeem at NAME: LEVEL`, or `refused`: the token of the last transfer, or the call where none went along."""
        carried = scene.tokens[-1:] or [scene.line.call_sid]
        status, answered = await self.at.redeem(self._key(scene, name), carried[0], scene.line.call_sid)
        got = str(answered["acr"]) if status == 201 else "refused"
        if got != wanted:
            raise scene.fail(f"the desk got: {got}")

    async def sends(self, scene: Scene, name: str) -> None:
        """`desk NAME sends a code`: for the caller to read out."""
        status, answered = await self._ask(scene, name, "codes", {})
        await self.at.server.guard.drain()
        if status != SENT:
            raise scene.fail(f"the desk got: {answered['error']}")

    async def sends_none(self, scene: Scene, name: str, wanted: str) -> None:
        """`desk NAME sends a code: REFUSAL`: none goes out."""
        status, answered = await self._ask(scene, name, "codes", {})
        got = "it was sent" if status == SENT else str(answered["error"])
        if got != wanted:
            raise scene.fail(f"the desk got: {got}")

    async def types(self, scene: Scene, name: str, keys: str, wanted: str) -> None:
        """`desk NAME types KEYS: ANSWER`: what the caller read; `right`, `wrong`, or why it was not judged."""
        digits = re.sub(r"\{(\w+)\}", lambda named: self.values[named[1]](), keys)
        status, answered = await self._ask(scene, name, "answers", {"digits": digits})
        got = ("right" if answered["right"] else "wrong") if status == 200 else str(answered["error"])
        if got != wanted:
            raise scene.fail(f"the desk got: {got}")

    async def names(self, scene: Scene, name: str, account: str) -> None:
        """`desk NAME names ACCOUNT`: the caller says that it is his."""
        status, answered = await self._ask(scene, name, "claims", {"account": account})
        if status != 200:
            raise scene.fail(f"the desk got: {answered['error']}")

    async def passes_on(self, scene: Scene, name: str, queue: str) -> None:
        """`desk NAME passes on to QUEUE`: with a new token, which is the last one from now on."""
        status, answered = await self._ask(scene, name, "transfers", {"queue": queue})
        if status != 201:
            raise scene.fail(f"the desk got: {answered['error']}")
        scene.tokens.append(str(answered["token"]))

    async def sees(self, scene: Scene, name: str, wanted: str) -> None:
        """`desk NAME sees STATUS`: the one word of its panel; `nothing` where it does not hold the call."""
        status, answered = await self._ask(scene, name, "", None)
        got = str(answered["status"]) if status == 200 else NOTHING
        if got != wanted:
            raise scene.fail(f"the desk sees: {got}")

    def _key(self, scene: Scene, name: str) -> str:
        if name not in self.keys:
            raise scene.fail(f"there is no desk '{name}': add `desk {name} serves QUEUE`")
        return self.keys[name]

    async def _ask(
        self, scene: Scene, name: str, what: str, body: Mapping[str, str] | None
    ) -> tuple[int, Mapping[str, object]]:
        """What the API answers about the story's call; no `body`: how it stands."""
        path = f"calls/{scene.line.call_sid}" + (f"/{what}" if what else "")
        return await self.at.asked(self._key(scene, name), path, body)


VERBS: Mapping[str, str] = {
    "desk NAME serves QUEUE": "serves",
    "redeem at NAME: LEVEL": "redeem",
    "desk NAME sends a code": "sends",
    "desk NAME sends a code: REFUSAL": "sends_none",
    "desk NAME types KEYS: ANSWER": "types",
    "desk NAME names ACCOUNT": "names",
    "desk NAME passes on to QUEUE": "passes_on",
    "desk NAME sees STATUS": "sees",
}
"""How each line about desks looks, and the method that does it."""
