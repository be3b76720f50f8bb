"""
Play one run, and say what came of it: the tally, as JSON.

    python -m tests.sim SEED CALLS

The suite plays its long runs so, in processes whose lines nobody counts: counted, they take three times as long, and a
thousand calls come to no line that the other tests do not come to.
"""

import json
import sys

from tests.sim import run

if __name__ == "__main__":
    seed, calls = (int(word) for word in sys.argv[1:])
    print(json.dumps(run.play(seed, calls).tally))
