"""
What each event of the record means to those who watch: one row each.

1. The names are OWASP's where its vocabulary has one, and so is the level
   (https://cheatsheetseries.owasp.org/cheatsheets/Logging_Vocabulary_Cheat_Sheet.html); the others are ours.
2. The class is OCSF's (https://schema.ocsf.io/1.4.0/): what was tried and came of it is Authentication, what becomes of
   an account is Account Change, what a call may do is Authorize Session, what an operator manages is Entity Management.
   Where a class has no activity for an event, it is Other (99) with a name of its own, as OCSF says.
3. An event that has no row here is exported all the same (`OTHER`): a record must not lose what a table forgot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

AUTHENTICATION, ACCOUNT_CHANGE, AUTHORIZE_SESSION, ENTITY_MANAGEMENT, BASE_EVENT = 3002, 3001, 3003, 3004, 0
CLASS_NAMES: Mapping[int, str] = {
    AUTHENTICATION: "Authentication",
    ACCOUNT_CHANGE: "Account Change",
    AUTHORIZE_SESSION: "Authorize Session",
    ENTITY_MANAGEMENT: "Entity Management",
    BASE_EVENT: "Base Event",
}
ACTIVITIES: Mapping[int, Mapping[int, str]] = {
    AUTHENTICATION: {1: "Logon", 2: "Logoff"},
    ACCOUNT_CHANGE: {
        1: "Create",
        2: "Enable",
        3: "Password Change",
        5: "Disable",
        6: "Delete",
        9: "Lock",
        12: "Unlock",
    },
    AUTHORIZE_SESSION: {1: "Assign Privileges"},
    ENTITY_MANAGEMENT: {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
    BASE_EVENT: {},
}
"""The activities used here, by class, as OCSF numbers and names them."""

OTHER_ACTIVITY = 99


class Level(IntEnum):
    """OWASP's level; its number is OCSF's `severity_id`: Informational, Medium, High."""

    INFO = 1
    WARN = 3
    CRITICAL = 4


class Status(IntEnum):
    """OCSF's `status_id`. Unknown: the event is no outcome."""

    UNKNOWN = 0
    SUCCESS = 1
    FAILURE = 2


@dataclass(frozen=True, slots=True)
class Meaning:
    """An event's row. `activity`: a number of `ACTIVITIES`, or a name of its own. `entity`: what kind of thing is managed."""

    words: str
    level: Level
    class_uid: int
    activity: int | str
    status: Status
    entity: str = ""

    @property
    def activity_id(self) -> int:
        """OCSF's number of the activity."""
        return self.activity if isinstance(self.activity, int) else OTHER_ACTIVITY

    @property
    def activity_name(self) -> str:
        """OCSF's name of the activity, or our own."""
        if isinstance(self.activity, str):
            return self.activity
        return ACTIVITIES[self.class_uid][self.activity]


_INFO, _WARN, _CRITICAL = Level
_NONE, _OK, _FAIL = Status


def _authentication(words: str, level: Level, activity: int | str, status: Status) -> Meaning:
    return Meaning(words, level, AUTHENTICATION, activity, status)


def _account(words: str, level: Level, activity: int | str, status: Status = _OK) -> Meaning:
    return Meaning(words, level, ACCOUNT_CHANGE, activity, status)


def _session(words: str, level: Level, activity: int | str, status: Status) -> Meaning:
    return Meaning(words, level, AUTHORIZE_SESSION, activity, status)


def _entity(words: str, level: Level, activity: int | str, entity: str) -> Meaning:
    return Meaning(words, level, ENTITY_MANAGEMENT, activity, _OK, entity)


MEANINGS: Mapping[str, Meaning] = {
    "accounts_imported": _entity("Accounts of a file came into force", _WARN, "Import", "accounts"),
    "account_claimed": _authentication("A caller named an account", _INFO, "Claim", _NONE),
    "agent_created": _account("An agent was given an account", _WARN, 1),
    "agent_locked": _account("An agent's account was locked", _WARN, 9),
    "agent_logged_in": _authentication("An agent logged in", _INFO, 1, _OK),
    "agent_logged_out": _authentication("An agent logged out", _INFO, 2, _OK),
    "agent_login_attempt": _authentication(
        "A log-in was counted before it was judged", _INFO, "Attempt", _NONE
    ),
    "agent_login_failed": _authentication("A log-in to the agents' pages was refused", _WARN, 1, _FAIL),
    "agent_removed": _account("An agent's account was removed", _WARN, 6),
    "agent_updated": _account("An agent's account was changed", _WARN, "Update"),
    "attack_over": Meaning("Nothing more is seen of an attack", _INFO, BASE_EVENT, "Attack", _NONE),
    "attack_suspected": Meaning(
        "What looks like an attack raised an alert", _CRITICAL, BASE_EVENT, "Attack", _NONE
    ),
    "authn_aside": _session("An agent had his caller led aside to prove a factor", _INFO, "Step Up", _NONE),
    "authn_aside_denied": _session("An agent's caller could not be led aside now", _INFO, "Step Up", _FAIL),
    "authn_aside_over": _session(
        "A caller who was led aside belongs to his agent again", _INFO, "Step Up", _NONE
    ),
    "authn_attempt": _authentication("An answer was counted before it was judged", _INFO, "Attempt", _NONE),
    "authn_attempt_unjudged": _authentication(
        "An answer was counted and could not be judged", _WARN, "Attempt", _FAIL
    ),
    "authn_attempt_withdrawn": _authentication(
        "An answer that nobody judged is not counted", _INFO, "Attempt Withdrawn", _NONE
    ),
    "authn_code_sent": _authentication("A code was sent", _INFO, "Code", _OK),
    "authn_code_undelivered": _authentication("A code was not delivered", _WARN, "Code", _FAIL),
    "authn_login_fail": _authentication("A factor was answered wrong", _WARN, 1, _FAIL),
    "authn_login_lock": _account("A factor was locked", _WARN, 9),
    "authn_login_success": _authentication("A factor was answered right", _INFO, 1, _OK),
    "authn_login_unlock": _account("A lock was ended by hand", _WARN, 12),
    "authn_password_change": _account("A PIN was changed by telephone", _INFO, 3),
    "authn_password_change_fail": _account("A new PIN was refused", _CRITICAL, 3, _FAIL),
    "authn_password_change_unconfirmed": _account(
        "A PIN may have been changed: nobody said so", _WARN, 3, _NONE
    ),
    "authn_token_created": _session("A hand-over was given a token", _INFO, 1, _OK),
    "authn_token_redeemed": _session("An agent's desk redeemed a token", _INFO, "Redeem Token", _OK),
    "authn_token_refused": _session("A desk presented a token that is no good", _WARN, "Redeem Token", _FAIL),
    "authn_token_reuse": _session("A desk presented a token again", _CRITICAL, "Redeem Token", _FAIL),
    "authz_fail": _session("A caller was refused", _CRITICAL, 1, _FAIL),
    "authz_granted": _session("A caller was let through", _INFO, 1, _OK),
    "authz_step_up": _session("A caller was asked for more", _INFO, "Step Up", _NONE),
    "call_taken": _session(
        "An agent took a call that was led to him with nothing asked", _INFO, "Take Call", _OK
    ),
    "bridge_joined": _session("An agent joined the caller in a room of the guard's", _INFO, "Bridge", _OK),
    "bridge_opened": _session("A caller was put into a room of the guard's", _INFO, "Bridge", _NONE),
    "bridge_over": _session("A caller left a room of the guard's for good", _INFO, "Bridge", _NONE),
    "call_viewed": _entity("An agent looked at a call that he holds", _INFO, 2, "call"),
    "call_view_refused": Meaning(
        "An agent asked for a call that he does not hold", _WARN, ENTITY_MANAGEMENT, 2, _FAIL, "call"
    ),
    "credentials_resealed": _entity("Secrets were sealed with the current key", _WARN, 3, "credentials"),
    "desk_created": _entity("An agent's desk was given a key", _WARN, 1, "desk"),
    "desk_revoked": _entity("A desk's key was ended", _WARN, 4, "desk"),
    "excess_rate_limit_exceeded": _authentication("No more codes may be sent for now", _WARN, "Code", _FAIL),
    "flow_activated": _entity("A flow came into force", _WARN, 3, "flow"),
    "flow_withdrawn": _entity("A flow is in force no longer", _WARN, 4, "flow"),
    "insider_over": Meaning("Nothing more is seen of a suspicion", _INFO, BASE_EVENT, "Insider", _NONE),
    "insider_suspected": Meaning(
        "What somebody of one's own did raised a suspicion", _CRITICAL, BASE_EVENT, "Insider", _NONE
    ),
    "owner_not_notified": _account("The owner could not be written to", _WARN, "Notify", _FAIL),
    "owner_notified": _account("The owner was written to", _INFO, "Notify"),
    "record_pruned": _entity("Old entries of the record were archived and taken out", _WARN, 4, "record"),
    "rest_call_led": _session("The IVR led a call elsewhere by REST", _INFO, "Lead", _NONE),
    "rest_refused": _session("What the IVR asked by REST was refused", _WARN, "Lead", _FAIL),
    "sensitive_read": _entity("Accounts were exported", _WARN, 2, "accounts"),
    "session_ended": _authentication("A call ended", _INFO, 2, _OK),
    "store_restored": _entity("The store was put back to an earlier state", _CRITICAL, 3, "store"),
    "threat_acknowledged": Meaning(
        "Somebody of the risk team has a threat in hand", _INFO, BASE_EVENT, "Threat", _NONE
    ),
    "threat_assessed": Meaning("The risk team rated a threat", _INFO, BASE_EVENT, "Threat", _NONE),
    "threat_closed": Meaning("The risk team closed a threat", _WARN, BASE_EVENT, "Threat", _NONE),
    "threat_decided": Meaning("The risk team decided about a threat", _WARN, BASE_EVENT, "Threat", _NONE),
    "threat_detailed": Meaning("A reporter filled in what he noticed", _INFO, BASE_EVENT, "Threat", _NONE),
    "threat_escalated": Meaning(
        "Nobody acknowledged a threat, and more people were told", _CRITICAL, BASE_EVENT, "Threat", _NONE
    ),
    "threat_heard": Meaning(
        "A caller said what the flow listens for", _CRITICAL, BASE_EVENT, "Threat", _NONE
    ),
    "threat_read": Meaning("Somebody read what there is of a threat", _INFO, BASE_EVENT, "Threat", _NONE),
    "threat_refused": Meaning(
        "Somebody may not act on a threat, and tried to", _WARN, BASE_EVENT, "Threat", _FAIL
    ),
    "threat_reported": Meaning("Somebody reported a threat", _CRITICAL, BASE_EVENT, "Threat", _NONE),
    "transfer_unseen": _session("A transfer went round the guard", _CRITICAL, "Bypass", _NONE),
    "user_archived": _account("An account was disabled", _WARN, 5),
    "user_created": _account("An account was added", _WARN, 1),
    "user_deleted": _account("An account was erased", _WARN, 6),
    "user_updated": _account("An account was changed", _WARN, "Update"),
}

OTHER = Meaning("Something else was decided", Level.INFO, BASE_EVENT, "Other", Status.UNKNOWN)
"""What an event without a row is taken for."""


def meaning(event: str) -> Meaning:
    """The row of an event."""
    return MEANINGS.get(event, OTHER)


def table() -> str:
    """The rows in Markdown, for the documentation."""
    lines = [
        "| event | says | level | OCSF class | activity | status |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for event, of in MEANINGS.items():
        activity = f"{of.activity_id} {of.activity_name}"
        status = f"{of.status.value} {of.status.name.title()}"
        class_ = f"{of.class_uid} {CLASS_NAMES[of.class_uid]}"
        lines.append(f"| `{event}` | {of.words} | {of.level.name} | {class_} | {activity} | {status} |")
    return "\n".join(lines) + "\n"
