"""`alto account`: new empty accounts, in a moment, so that any number of test runs stay apart from each other."""

import json

import click
import msgspec

from alto.ui.cli import options
from alto.ui.cli.answers import Accounts, NewAccount, SerialConsoleAccess
from alto.ui.cli.output import show


@click.group(cls=options.Group)
def account() -> None:
    """Accounts and their keys."""


@account.command()
@click.argument("name", required=False)
def create(name: str | None) -> None:
    """Make an empty account with its default VPC, and print its keys as KEY=VALUE lines (or -o json)."""
    made = options.client().post("accounts", {"name": name} if name else {}, NewAccount)
    if options.quiet() or options.output() == "name":
        print(made.account)
    elif options.output() == "json":
        print(json.dumps(msgspec.to_builtins(made)))
    elif options.output() == "yaml":
        show([], [], data=msgspec.to_builtins(made), format="yaml")
    else:
        print(f"AWS_ACCESS_KEY_ID={made.access_key_id}")
        print(f"AWS_SECRET_ACCESS_KEY={made.secret_access_key}")
        print(f"AWS_ACCOUNT_ID={made.account}")


@account.command("list")
def list_() -> None:
    """Every account of this cloud (operators only)."""
    raw = options.client().send("GET", "accounts")
    rows = [
        [one.account, one.name, "operator" if one.operator else "tenant"]
        for one in msgspec.json.decode(raw, type=Accounts).accounts
    ]
    show(
        rows,
        ["ACCOUNT", "NAME", "ROLE"],
        data=msgspec.json.decode(raw)["accounts"],
        format=options.output(),
        quiet=options.quiet(),
        empty="no accounts",
    )


@account.command("serial-console")
@click.argument("switch", required=False, type=click.Choice(["on", "off"]))
def serial_console(switch: str | None) -> None:
    """Whether live consoles of the account's instances may be opened, in this region; or turn that on or off.

    Off at first, as in EC2. Logging in takes a password that the guest knows: user data can set one.
    """
    actions = {None: "GetSerialConsoleAccessStatus", "on": "EnableSerialConsoleAccess", "off": "DisableSerialConsoleAccess"}
    status = options.client().ec2(actions[switch], SerialConsoleAccess)
    word = "on" if status.serial_console_access_enabled else "off"
    show(
        [[word]],
        ["SERIAL CONSOLE"],
        data={"SerialConsoleAccessEnabled": status.serial_console_access_enabled},
        format=options.output(),
        quiet=options.quiet(),
    )
