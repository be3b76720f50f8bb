"""
What the agents' pages say: every sentence of them, in one place.

The laws of this file:

1. What an agent reads out (`say`) teaches an attacker nothing: no word of what was wrong, of a lock, or of whether there is such
   an account (`docs/design` of the callers' prompts says the same of `again` and `refused`).
2. Plain words, short: it is read in the middle of a call. What to do stands as orders, one each.
3. A word of a status never stands alone: it has a reason, something to do, and something to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ivrguard.core.aside import Denied
from ivrguard.core.assurance import Kind
from ivrguard.core.conference import Ended
from ivrguard.core.incidents import Refusal, State, What
from ivrguard.core.passing import Why as NotPassed
from ivrguard.core.readback import Why as NoCode
from ivrguard.core.standing import Status


@dataclass(frozen=True, slots=True)
class Words:
    """One state: the `word`, why it is so, what to do next (in order), and what to say to the caller, verbatim."""

    word: str
    why: str
    todo: tuple[str, ...]
    say: str


STATUS: Mapping[Status, Words] = {
    Status.VERIFIED: Words(
        "Verified",
        "Everything needed for {intent} is proved.",
        (
            "Go on with what stands as “yes” below.",
            "Anything else needs one more check first: never make an exception.",
        ),
        "Thank you, you are verified. How can I help you?",
    ),
    Status.NEEDS_FACTOR: Words(
        "Needs {count}",
        "Proved: {proved}. Still missing for {intent}: {needs}.",
        (
            "Have the caller checked once more before you do anything for {intent}.",
            "Until then, only what stands as “yes” below.",
        ),
        "Thank you. For this I need one more check. It takes a moment, and it protects your account.",
    ),
    Status.NOT_VERIFIED: Words(
        "Not verified",
        "Nothing has been proved on this call that counts now.",
        (
            "Give general information only.",
            "Have the caller verified before you speak about any account.",
        ),
        "Before I can speak about an account, I need to verify you. That protects you.",
    ),
    Status.EVALUATING: Words(
        "Evaluating",
        "The caller is being asked something by the guard at this moment.",
        ("Wait: this page changes by itself.", "Do not ask the caller for a PIN or a code yourself."),
        "Please follow the instructions that you hear. I will be right here.",
    ),
    Status.LOCKED: Words(
        "Locked",
        "Too many answers on this account were not accepted. For now, none is looked at.",
        (
            "Do nothing for this account, whoever is on the line.",
            "Do not say that it is locked, nor until when.",
        ),
        "We could not verify you on this call. If you need help, please visit us in person, or sign in on our website.",
    ),
    Status.ENDED: Words(
        "Call ended",
        "The caller has hung up. What was proved was proved for that call only.",
        ("Do nothing more for this caller.", "Whoever calls back is verified anew."),
        "Nobody is on the line.",
    ),
}
"""The states of a call. `{intent}`, `{count}`, `{proved}`, `{needs}` are filled in by view.py."""

BEYOND = Words(
    "Needs more",
    "Proved: {proved}. For {intent} that is not enough, and this account has nothing more to show on this call.",
    ("Do nothing for {intent} on this call.", "Only what stands as “yes” below."),
    "I can't do that on the phone. Please visit us in person, or sign in on our website.",
)
"""`needs_factor`, where no question can bring it about."""

NO_CALL = Words(
    "Not verified",
    "You hold no call here.",
    (
        "Redeem the token of the caller before you: it stands in your task, your call's details, or was whispered to you.",
        "No token? Then nobody has been verified: give general information only.",
    ),
    "Before I can speak about an account, I need to verify you. That protects you.",
)

NO_GUARD = Words(
    "Not verified",
    "The guard does not answer: nobody can say who the caller is.",
    (
        "Treat the caller as not verified: give general information only.",
        "Look again in a moment. If it lasts, tell your supervisor.",
    ),
    "I am sorry, I can't verify you at the moment. Please call again a little later.",
)
"""What the page turns to when it has no connection, or the guard no store."""

ASKED_FOR: Mapping[Kind, str] = {
    Kind.PIN: "their PIN",
    Kind.SMS_CODE: "a code by text message",
    Kind.TOTP: "a code from their app",
}
"""A factor that is to be asked for."""

PROVED: Mapping[Kind, str] = {
    Kind.PIN: "PIN",
    Kind.SMS_CODE: "code by text message",
    Kind.TOTP: "code from the app",
}
"""A factor that was proved."""

NOTHING_NAMED = "this call"
"""What a call is for that no rule has named."""

RISKS: Mapping[str, tuple[str, str]] = {
    "attestation_failed": (
        "The number could not be confirmed",
        "A carrier says that this caller has no right shown to the number. It may be forged.",
    ),
    "attestation_gateway": (
        "The call came in through a gateway",
        "Who sent it there knows nothing of the number.",
    ),
    "diverted": ("The call was forwarded", "Another line than the one on file may have been dialled first."),
}
"""What speaks against the number: a title, and what it means. None of it changes what was proved."""

NO_RISK = "Nothing is known against this number. That proves nothing either."
RISK_APART = "None of this changes what the caller has proved; and a proof says nothing about it."

COUNTS = ("no factor", "one factor", "two factors", "three factors")
"""How many are still to be proved."""

ATTEMPTS = "{count} left before this account locks."
LAST_ATTEMPT = "One left before this account locks."
NO_ATTEMPT = "None: no answer is looked at before {until}."
DISABLED = "None: a factor of this account is out of use for good, until its owner in person has it renewed."
FOR_YOU = "For you alone: never say it to the caller."

REFUSED = (
    "That was not accepted.",
    "Check it and try once more: it works once, for your queue, while the caller is there. If not: not verified.",
)
"""The same for every token that is no good, whatever is wrong with it."""

GONE = ("You hold no such call.", "It ended, was passed on, or was never yours.")
"""The same for a call of somebody else's and for one that never was."""

NOT_FOR_YOU = (
    "This page is for another role.",
    "Above are the pages of yours. If that is not right, ask whoever manages your account.",
)

THREAT_SCRIPT: tuple[str, ...] = (
    "Stay calm and polite. Keep the caller talking; he does not notice this report.",
    "Do not hang up, even if he does: the line may still be traced.",
    "Write down his words exactly. Listen: voice, manner, what is behind it.",
    "Touch nothing, tell only whom your house's rules name. What is done is decided by others.",
)
"""CISA's advice to whoever takes the call (https://www.cisa.gov/news-events/news/what-do-bomb-threat)."""

QUESTIONS: Mapping[str, str] = {
    "exact_words": "His words, exactly",
    "when_explodes": "When will it explode?",
    "where_now": "Where is it right now?",
    "looks_like": "What does it look like?",
    "kind": "What kind of bomb is it?",
    "sets_off": "What will make it explode?",
    "placed": "Did you place it?",
    "why": "Why?",
    "name": "What is your name?",
    "address": "What is your address?",
    "received": "Received at",
    "ended": "Ended at",
    "called": "Number and extension that took it",
    "caller": "Number it came from",
    "sex": "Sounded",
    "age": "Age, about",
    "familiar": "Sounded familiar: like whom?",
    "voice": "Voice",
    "accent": "Accent: which?",
    "background": "Behind it",
    "language": "Wording",
    "remarks": "Anything else",
    "reported_to": "Also told",
}
"""CISA's checklist, in the order that a talk has: what to ask first, then what was noticed."""

NOT_ONE_OF_THESE = "Not one of the answers that can be given here: choose again."

THREAT_STATES: Mapping[State, str] = {
    State.OPEN: "Nobody has it",
    State.ACKNOWLEDGED: "In hand",
    State.CLOSED: "Closed",
}

HAPPENED: Mapping[What, str] = {
    What.REPORTED: "reported it ({word})",
    What.HEARD: "heard a phrase in what the caller said",
    What.DETAILED: "filled in: {word}",
    What.ESCALATED: "told the team again, escalation {word}: nobody had acknowledged",
    What.ACKNOWLEDGED: "has it in hand",
    What.ASSESSED: "assessed it: {word}",
    What.DECIDED: "decided: {word}",
    What.CLOSED: "closed it",
}
"""What a line of a time-line says behind a name."""

THREAT_REFUSED: Mapping[Refusal, tuple[str, str]] = {
    Refusal.NOT_TEAM: ("Only the risk team decides.", "Ask somebody of it."),
    Refusal.NOT_APART: (
        "Not in an affair of your own.",
        "You reported this, or whoever did is your manager or reports to you: somebody else of the team decides. Your try is on record.",
    ),
    Refusal.NOT_FRESH: (
        "To close is grave.",
        "Show once more who you are, then close it: nothing was done yet.",
    ),
    Refusal.NOT_YOURS: ("This is not your report.", "Only who reported fills it in."),
    Refusal.NO_REASON: ("Say why.", "A decision without its reason helps nobody who reads it later."),
    Refusal.CLOSED: ("It is closed.", "A new report opens it again."),
    Refusal.FASTER: (
        "Somebody was faster.",
        "This is how it stands now. Look at what is new, then send yours again: it is still in the form.",
    ),
    Refusal.FULL: ("Nothing more can be kept here.", "Close it; what comes after that opens it anew."),
    Refusal.TOO_MANY: ("That was the tenth report in an hour.", "Call the risk team."),
}
"""Why a change was not made, and what to do."""

GONE_INCIDENT = ("There is no such incident.", "Below are those that stand.")
CLOSING_IS_GRAVE = "To close it, show once more who you are: that was more than five minutes ago."
"""Why the box that closes is not there."""
NOT_KEPT = "Not saved yet: this has to be mended first. Nothing that you wrote is lost."
KEPT = "Saved. Go on whenever you know more."

NO_CODE: Mapping[NoCode, tuple[str, str]] = {
    NoCode.ENDED: ("The caller has hung up.", "Nothing more can be proved on this call."),
    NoCode.NO_ACCOUNT: ("No account is named.", "Ask the caller for the account, and take it down first."),
    NoCode.NOT_BY_VOICE: ("No code can be read to you here.", "Have the caller key it."),
    NoCode.NOT_ENROLLED: ("This account has no number for codes.", "Have the caller prove something else."),
    NoCode.AT_THE_KEYPAD: ("The caller is keying a code just now.", "Wait until that is over."),
    NoCode.NO_MORE_CODES: (
        "No more codes can be sent.",
        "Have the caller prove something else, or call again later.",
    ),
    NoCode.UNDELIVERABLE: ("The code could not be sent.", "Have the caller prove something else."),
    NoCode.NO_CODE: ("There is no code that this could be.", "Send a new one."),
    NoCode.MISTYPED: (
        "That was not the right number of digits.",
        "Ask the caller to read it once more. It did not count.",
    ),
    NoCode.BEING_JUDGED: ("It is being checked.", "Wait a moment."),
    NoCode.NOT_JUDGED: ("It could not be checked just now.", "Type it once more. It did not count."),
}
"""Why a code was not sent, or an answer not judged."""

CODE_WRONG = ("That is not the code.", "Ask the caller to read it once more, or send a new one.")
CODE_RIGHT = ("That is the code.", "")

NOT_PASSED: Mapping[NotPassed, tuple[str, str]] = {
    NotPassed.ENDED: ("The caller has hung up.", "There is nobody to be passed on."),
    NotPassed.TOO_OFTEN: (
        "This call was passed on too often.",
        "Finish it yourself, or ask the caller to call again.",
    ),
    NotPassed.SUPERSEDED: ("A newer token was made meanwhile.", "Use that one."),
    NotPassed.UNKNOWN_INTENT: ("Nothing of that name can be wanted here.", "Leave it out."),
    NotPassed.AT_THE_KEYPAD: ("The caller is at the keypad just now.", "Wait until he is back."),
    NotPassed.TOO_MANY_CLAIMS: (
        "You have named many accounts in an hour.",
        "No more are taken down for now. It is on record.",
    ),
}
NO_QUEUE = (
    "There is no such place.",
    "Write what kind it is and its name: enqueue:support, workflow:WW…, client:bob, number:+1….",
)

NO_ACCOUNT = ("That is no account number.", "Write the digits that the caller names.")

PASSED = "Redeemed once, at that queue, while the caller is there. It is not shown again: give it to the next agent, and to nobody else."

ASIDE: Mapping[Kind, str] = {
    Kind.PIN: "PIN",
    Kind.SMS_CODE: "Code by message",
    Kind.TOTP: "Code from the app",
}
"""What the caller keys aside."""

AWAY = "The caller is at the keypad. Stay on the line: he comes back to you."

CAME_BACK: Mapping[Ended, str] = {
    Ended.VERIFIED: "The caller is back: yes, that was right.",
    Ended.NOT_VERIFIED: "The caller is back: no. Do not ask him what he keyed.",
    Ended.HUNG_UP: "The caller hung up at the keypad.",
    Ended.NOT_REACHED: "The caller could not be led aside. He is with you, and nothing was proved.",
    Ended.UNAVAILABLE: "The caller is back: nobody could ask him just now. Nothing was proved.",
}
"""How the last time aside ended, as the agent may know it."""

NOT_ASIDE: Mapping[Denied, tuple[str, str]] = {
    Denied.NOT_BRIDGED: ("This call is not joined by the guard.", "Send a code instead."),
    Denied.NOT_JOINED: ("You and the caller are not joined yet.", "Wait a moment."),
    Denied.ASIDE: ("The caller is at the keypad already.", "Wait until he is back."),
    Denied.ENDED: ("The caller has hung up.", "Nothing more can be proved on this call."),
    Denied.UNAVAILABLE: ("Nobody could say where the caller is.", "Press again, or send a code instead."),
    Denied.NO_SUCH_FACTOR: ("The caller has nothing of that kind.", "Try another way."),
}
