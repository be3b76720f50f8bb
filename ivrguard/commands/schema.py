"""The JSON Schema of flow files and prompt files, for editors."""

import json
from typing import Annotated

import typer

from ivrguard.flowfile.schema import prompts_schema, schema

app = typer.Typer()


@app.command("schema", epilog="Example: ivrguard schema > flows/flow.schema.json")
def print_schema(
    *,
    prompts: Annotated[bool, typer.Option("--prompts", help="That of prompt files instead.")] = False,
) -> None:
    """
    Print the JSON Schema of flow files: editors complete and check by it.

    A file says which one it keeps to in its first line: # yaml-language-server: $schema=flow.schema.json
    """
    typer.echo(json.dumps(prompts_schema() if prompts else schema(), indent=2, ensure_ascii=False))
