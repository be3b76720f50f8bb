"""Secret keys."""

import secrets

import typer

from ivrguard import keyring

keys = typer.Typer(name="keys", help="Secret keys.", no_args_is_help=True)


@keys.command("new", epilog="Example: (umask 077; ivrguard keys new > ivrguard.env)")
def keys_new() -> None:
    """Print fresh keys as environment variables. Keep them outside the store, and do not lose the peppers."""
    for variable, text in keyring.new_material(secrets.token_bytes).items():
        print(f"{variable}={text}")
