"""
The red team: attacks on IVR authentication, played against an admin's own flow on a real guard (`ivrguard redteam`).

Where is …?

| what | where |
| --- | --- |
| what an attack is, and what came of it | attack.py |
| the contact centre that is attacked, and its owner's own calls | ground.py |
| guessing: one account, many, at once, again, for months | guessing.py |
| keeping the owner out, floods | denying.py |
| who exists, and what leaks | naming.py |
| webhooks that Twilio did not send | posting.py |
| a caller's leg where it should not be | straying.py |
| documents of the IVR's that lead round the guard | documents.py |
| codes: phished, old, of another call, pumped | codes.py |
| tokens, and agents who are talked round | handing.py |
| codes read to agents, and callers passed on | desks.py |
| doors that the flow itself leaves open | doors.py |
| all of them, in turn | raid.py |
"""
