"""
Checkpoints: the record, signed.

1. A checkpoint is a JWT (`ivrguard-checkpoint+jwt`, EdDSA) over a chain's name, an entry's number and its hash. It is kept
   in the store, and it is no secret: whoever makes one puts it into the log as well, so that a copy is elsewhere.
2. Nothing is signed that was not walked: from the checkpoint before on, which this process remembers or whose
   signature holds. So a server that runs finds within minutes what is changed behind its back, and does not sign it.
3. A record may begin later than at entry 1 only behind a checkpoint that says so (`begins`; guard/retention.py).

How a record is verified with them: guard/verification.py.
"""

from dataclasses import dataclass, field, replace

from ivrguard import log
from ivrguard.core.audit import Broken, Checkpoint, Linked, Place, ends, name, walk
from ivrguard.core.errors import RecordFault
from ivrguard.keyring import PublicKeys
from ivrguard.ports import Change, Key, Keys, Put, Store

TYP = log.CHECKPOINT_TYP
ENTRIES_A_PAGE = 1_000
LATEST_FIRST = -(2**63) + 1
"""Checkpoints have their number, negative, as their rank: the latest is the first of all."""

BEGINS: Key[str] = Key("checkpoint", "begins")
"""The checkpoint behind which the record begins."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint and the token that says so."""

    token: str
    checkpoint: Checkpoint


def sign(keys: Keys, checkpoint: Checkpoint, *, issuer: str) -> Signed:
    """`issuer`: the public URL of the guard, for whoever collects checkpoints of many."""
    claims: dict[str, object] = {
        "iss": issuer,
        "sub": checkpoint.chain,
        "seq": checkpoint.seq,
        "hash": checkpoint.hash,
        "iat": checkpoint.at_ms // 1000,
    }
    if checkpoint.begins:
        claims["begins"] = True
    to_the_second = replace(checkpoint, at_ms=checkpoint.at_ms // 1000 * 1000)  # as it is read again
    return Signed(keys.sign(claims, typ=TYP), to_the_second)


def read(public: PublicKeys, token: str) -> Signed:
    """The checkpoint that a token signs. Raises `RecordFault` when none of the keys signed it."""
    try:
        claims = public.read(token, typ=TYP)
    except ValueError as error:
        raise RecordFault(f"a checkpoint: {error}") from None
    match claims:
        case {"sub": str(chain), "seq": int(seq), "hash": str(hash_), "iat": int(at_s)}:
            begins = claims.get("begins") is True
            return Signed(token, Checkpoint(chain, seq, hash_, at_s * 1000, begins))
        case _:
            raise RecordFault("a checkpoint: it is signed, and says something else than a checkpoint does")


async def latest(store: Store, public: PublicKeys) -> Signed | None:
    """The last checkpoint that is kept, or None. Raises `RecordFault` if its signature does not hold."""
    found = await store.list("checkpoint", rank_from=LATEST_FIRST, limit=1)
    return read(public, str(found[0].value)) if found else None


async def begins(store: Store, public: PublicKeys) -> Checkpoint | None:
    """The checkpoint behind which the record begins; None: it begins at entry 1."""
    token = await store.read(BEGINS)
    if token is None:
        return None
    found = read(public, token).checkpoint
    if not found.begins:
        raise RecordFault(
            "the checkpoint behind which the record should begin does not say so: it was put there"
        )
    return found


def refuse_if_broken(found: Place | Broken | None) -> None:
    """Raise `RecordFault` for a break."""
    if isinstance(found, Broken):
        raise RecordFault(f"the record is broken at entry {found.seq}: {found.why}")


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs the record of `store`. `keys` signs; `public` checks what was signed before, old keys included."""

    store: Store
    keys: Keys = field(repr=False)
    public: PublicKeys
    issuer: str

    async def checkpoint(self, now_ms: int, last: Checkpoint | None = None) -> Signed | None:
        """
        Walk what came since the last checkpoint, sign the head, and keep it; None when nothing came.

        `last`: the one that this process made last; None: the last that is kept. Raises `RecordFault` when the
        record does not hold, and signs nothing then.
        """
        kept = last or await self._kept()
        place, chain = (Place(kept.seq, kept.hash), kept.chain) if kept else (Place(), "")
        head = await self.store.head()
        while place.seq < head[0] and (page := await self._page(place.seq, head[0])):
            chain = chain or name(page[0])
            walked = walk(place, page)
            refuse_if_broken(walked)
            assert isinstance(walked, Place), "a break was refused"
            place = walked
        refuse_if_broken(ends(place, head))
        if place.seq == (kept.seq if kept else 0):
            return None
        signed = sign(self.keys, Checkpoint(chain, place.seq, place.hash, now_ms), issuer=self.issuer)
        key: Key[object] = Key("checkpoint", f"{place.seq:020d}")
        put = Put(key, signed.token, rank=-place.seq)
        await self.store.amend([key], lambda _: Change(None, (put,)))
        return signed

    async def _kept(self) -> Checkpoint | None:
        signed = await latest(self.store, self.public)
        return signed.checkpoint if signed is not None else await begins(self.store, self.public)

    async def _page(self, after: int, upto: int) -> list[Linked]:
        """What comes next, up to the head as it was when the walk began: a server goes on writing."""
        found = await self.store.entries(after=after, limit=min(ENTRIES_A_PAGE, upto - after))
        return [one for one in found if one.seq <= upto]
