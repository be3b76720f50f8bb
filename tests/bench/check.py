"""
How long `check` takes for a flow of 200 rules: the time of a hot reload, and of an editor's save.

    python tests/bench/check.py [ROUNDS]

Everything is in it but the start of the process: reading, the meaning, the guess budget and every profile. Ordinary
flows, and those that make the most work: rules that begin and end alike, and whose wildcards say little. Goal: 100 ms.

Time is the processor's, for this process alone: the machine may be busy. No pattern is known from the round before.
"""

import statistics
import sys
import time
from pathlib import Path

from ivrguard import flowfile
from ivrguard.core import budget, overlap, profiles, rules

FLOWS = Path(__file__).parents[2] / "flows"
WORDS = (FLOWS / "prompts" / "en-US.yaml").read_bytes()
COUNT = 200
GOAL_MS = 100

HEAD = """\
flow: big
numbers: ["+18005550100"]
upstream: {url: https://ivr.bank.example/voice}
identify: {ask: account_number, digits: {min: 6, max: 12}}
factors: {pin: {kind: pin, digits: 8}, code: {kind: sms_code}, app: {kind: totp}}
levels: {one: {any: [pin, code, app]}, two: {all: [pin, {any: [code, app]}]}}
default: {require: one}
ceiling: {guess_chance_per_year: 0.01}
"""
TRANSFERS = "  - {transfer: any, require: two, reverify: one}\n"


def ruled(rule, count=COUNT - 1, head=HEAD):
    """A flow of so many rules; `rule(number)` is what stands in one, in YAML."""
    lines = "".join(f"  - {{{rule(number)}}}\n" for number in range(count))
    return f"{head}rules:\n{lines}{TRANSFERS * (count < COUNT)}"


def listed(key, entry, count):
    """One more key with a list of so many entries."""
    return f"{HEAD}{key}: [{', '.join(entry(number) for number in range(count))}]\n"


def words(number):
    """A path as people write them: areas with pages, and what is done on them."""
    return f"/{('accounts', 'cards', 'loans', 'wire')[number % 4]}/{('list', 'show', 'order')[number % 3]}/{number}"


PLANTED = {
    "paths, as people write them": ruled(lambda n: f'path: "{words(n)}", require: two, within: 5m'),
    "trees of paths": ruled(lambda n: f'path: "{words(n)}/**", require: two, intent: wire'),
    "a menu's keys": ruled(lambda n: f'path: /menu/{n // 10}, digits: "{n % 10}", require: two'),
    "the same with sensitive paths": ruled(
        lambda n: f'path: "{words(n)}/**", require: two', head=listed("sensitive", lambda n: f"{words(n)}/**", 20)
    ),
    "queues by name": ruled(lambda n: f"transfer: {{enqueue: desk-{n}}}, require: two, reverify: one"),
    "wildcards in the middle": ruled(lambda n: f'path: "/a/**/x{n}/**/y", require: two'),
    "wildcards everywhere": ruled(lambda n: f'path: "/**/*x{n}*/**", require: two'),
    "long literals between them": ruled(lambda n: f'path: "/{"a" * 90}**{"b" * 60}**{n:03}*", require: two'),
    "what seems covered": ruled(lambda n: f'path: "/**{"ab" * (n % 40 + 1)}*{"ab" * (n // 40 + 1)}**", require: two'),
    "one letter": ruled(lambda n: f'path: "/{"a" * (n % 100)}**a**{"a" * (n // 2)}*a", require: two'),
    "one letter that does not fit": ruled(
        lambda n: f'path: "/{"**a" * 3}**{n:03}", require: two' if n % 2 else f'path: "/{"a" * 190}{n - 1:03}", require: two'
    ),
    "every rule hidden": ruled(lambda n: f'path: "/**/{n % 7}/*/**", require: two'),
    "queues with wildcards": ruled(
        lambda n: f'transfer: {{enqueue: "*d{n}*"}}, hours: "mon-fri 08:00-18:00", require: two, reverify: one'
    ),
    "200 sensitive paths": ruled(
        lambda n: f'path: "/**/x{n}/**", require: two', head=listed("sensitive", lambda n: f'"/**/s{n}/**"', COUNT)
    ),
    "200 sensitive paths, all open": ruled(
        lambda n: f'path: "/**/x{n}/**", allow: anyone', head=listed("sensitive", lambda n: f'"/**/s{n}/**"', COUNT)
    ),
    "200 sensitive paths, none met": ruled(
        lambda n: f'path: "/a/*/x{n}/*/z", allow: anyone', head=listed("sensitive", lambda n: f'"/a/*/s{n}/*/z"', COUNT)
    ),
}  # fmt: skip


def forget():
    """Nothing is known of any pattern."""
    for module in (budget, overlap, rules):
        for known in vars(module).values():
            if hasattr(known, "cache_clear"):
                known.cache_clear()


def looked_through(text):
    """What `ivrguard check --profile all` does with one file."""
    loaded = flowfile.read("flows/big.yaml", text.encode(), lambda _: WORDS)
    if loaded.flow is not None:
        budget.budget(loaded.flow)
        for profile in profiles.PROFILES.values():
            profiles.judged(loaded.flow, profile)
    return loaded


def main(rounds=7):
    widest = max(map(len, PLANTED))
    print(f"{'':{widest}}  median ms   from     to   faults  doubts")
    slowest = 0.0
    for name, text in PLANTED.items():
        times = []
        for _ in range(rounds):
            forget()
            began = time.process_time()
            loaded = looked_through(text)
            times.append((time.process_time() - began) * 1000)
        median = statistics.median(times)
        slowest = max(slowest, median)
        print(
            f"{name:{widest}}  {median:9.1f} {min(times):6.1f} {max(times):6.1f}   {len(loaded.faults):6} {len(loaded.doubts):7}"
        )
    print(f"the slowest takes {slowest:.0f} ms; wanted: less than {GOAL_MS} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
