"""
GROUND: what is decided, and by which rule. Pure: no await, no clock, no chance, no I/O.

Where is …?

| what | where |
| --- | --- |
| the lockout rule | core/lockout.py |
| which level a request or transfer needs | core/rules.py |
| what is proved, and which level that makes | core/assurance.py |
| what happens next in a call | core/step.py, `step` |
| why a webhook repeated changes nothing | core/admission.py, `admit` |
| when a token works, and once | core/handoff.py, `redeem` |
| who holds a caller, and what an agent may do | core/agents.py, `holds` |
| how long an agent's session lasts | core/sessions.py, `live` |
| what the agent sees of the call he holds | core/standing.py, `standing_of` |
| the calls of an agent, and that he looks at them | guard/held.py, `held` |
| what an agent's desk may ask | web/agents/; web/agents/api.py, `Route` |
| a code that the caller reads to the agent | core/readback.py, `answer` |
| passing a caller on; first contact with an agent | core/passing.py, `pass_on` |
| what is counted before it is judged or sent | core/counting.py, `reserve` |
| caller and agent in a room of the guard's | guard/conference.py; core/conference.py, `due` |
| the caller aside at the keypad, and back | core/aside.py |
| what a flow may say, and its faults | core/flow.py, core/check.py, `check` |
| the most guesses that a rule allows | core/budget.py, `most` |
| what standards ask of a flow | core/profiles.py |
| what looks like an attack, and when it is enough | core/sense.py, core/alerts.py |
| what callers need while an alert stands | core/raising.py |
| who may act on a threat, and when it is told again | core/incidents.py, `barred` |
| what an insider is told by | core/insiders.py, `acts_of` |
| who calls (numbers, SIP, withheld), attestation | core/caller.py |
| the record and its chain | core/audit.py |
| what we need from the world | ports.py |
| Twilio's signature | telephony/signature.py |
| the bank's own accounts and PINs | directory/http.py; directory/bank.py, `ask` |
| the shape of a webhook | telephony/delivery.py |
| how the IVR's TwiML is rewritten | telephony/document.py, telephony/links.py |
| the guard's own TwiML | telephony/twiml.py |
| right or wrong, per factor | factors/ |
| an import of accounts, all or nothing | directory/intake.py |
| which flows every node has in force | guard/publishing.py, web/reload.py |
| where the floors meet | guard/ |
| one indivisible act | stores/, `amend` |
| the attacks that are played against a flow | phone/redteam/ |
| a webhook's way in | web/voice.py |
| what the agents' pages show, and say | web/console/; web/console/words.py |
| which transfers went round the guard | core/bypass.py, `accounted` |
| what the IVR may have done by REST | guard/side_door.py; telephony/rest.py |
| an agent's cookie; who asks | web/sessions.py; web/identity.py, `Identity` |
| what is measured, and what is traced | web/watched.py; web/otlp.py |
"""
