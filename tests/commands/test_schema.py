"""`schema`: the files beside the flows are what it prints."""

import json
from pathlib import Path

import pytest

from ivrguard.flowfile.schema import prompts_schema, schema

FLOWS = Path(__file__).parents[2] / "flows"


@pytest.mark.parametrize(
    ("arguments", "file", "made"),
    [((), "flow.schema.json", schema), (("--prompts",), "prompts.schema.json", prompts_schema)],
)
def test_schema_prints_what_stands_beside_the_flows(arguments, file, made, asked, ends):
    """Whoever changes the format writes the file anew: `ivrguard schema > flows/flow.schema.json`."""
    result = asked({}, "schema", *arguments)

    ends(result, 0, (FLOWS / file).read_text())
    assert json.loads(result.out) == made()


def test_the_examples_say_which_schema_they_keep_to():
    """In their first line, by a path from where they are, so that editors find it."""
    for path in [*FLOWS.glob("*.yaml"), *FLOWS.glob("prompts/*.yaml")]:
        line = path.read_text().partition("\n")[0]
        assert line.startswith("# yaml-language-server: $schema=")
        assert (path.parent / line.partition("=")[2]).resolve().parent == FLOWS
