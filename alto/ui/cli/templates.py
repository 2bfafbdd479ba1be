"""`alto template`: launch templates, made from an instance that is as one wants it. `alto instance run --template` launches."""

from typing import Any

import click

from alto.ui.cli import options
from alto.ui.cli.answers import MadeTemplate, MadeVersion, Nothing, Template, Templates, TemplateVersions
from alto.ui.cli.client import Client
from alto.ui.cli.failures import Exit, Failure
from alto.ui.cli.instances import resolve
from alto.ui.cli.output import say, show

PAGE = 200


@click.group(cls=options.Group)
def template() -> None:
    """Launch templates, and their versions."""


@template.command("list")
def list_() -> None:
    """Every template, with its newest and its default version."""
    client = options.client()
    found: list[Template] = []
    token: str | None = None
    while True:
        answer = client.ec2("DescribeLaunchTemplates", Templates, MaxResults=PAGE, NextToken=token)
        found += answer.launch_templates
        token = answer.next_token
        if not token:
            break
    _show(found)


def _show(found: list[Template]) -> None:
    rows = [
        [one.launch_template_id, one.launch_template_name, one.latest_version_number, one.default_version_number]
        for one in found
    ]
    data = [
        {
            "id": one.launch_template_id,
            "name": one.launch_template_name,
            "latest": one.latest_version_number,
            "default": one.default_version_number,
        }
        for one in found
    ]
    show(
        rows,
        ["TEMPLATE", "NAME", "LATEST", "DEFAULT"],
        data=data,
        format=options.output(),
        quiet=options.quiet(),
        empty="no launch templates",
    )


def _reference(name: str) -> dict[str, str]:
    return {"LaunchTemplateId" if name.startswith("lt-") else "LaunchTemplateName": name}


@template.command("show")
@click.argument("name", metavar="TEMPLATE")
@click.option("--version", default="$Default", show_default=True, help="A number, $Latest or $Default.")
def show_(name: str, version: str) -> None:
    """What one version says."""
    found = (
        options.client()
        .ec2("DescribeLaunchTemplateVersions", TemplateVersions, Versions=[version], **_reference(name))
        .launch_template_versions
    )
    if not found:
        raise Failure(f"{name} has no version {version}", hint=f"alto template show {name}", exit=Exit.NOT_FOUND)
    one = found[0]
    data = one.launch_template_data
    rows: list[list[Any]] = [["version", one.version_number], ["description", one.version_description]]
    rows += [[field, _said(value)] for field, value in data.items()]
    show(
        [row for row in rows if row[1] not in (None, "")],
        ["FIELD", "VALUE"],
        data={"version": one.version_number, "data": data},
        format=options.output(),
    )


def _said(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name}={_said(inner)}" for name, inner in value.items())
        case list():
            return "; ".join(_said(inner) for inner in value)
    return str(value)


@template.command()
@click.argument("name", metavar="NAME")
@click.option("--from", "source", required=True, metavar="INSTANCE", help="The instance that others are to be like.")
@click.option("--description", help="Of this version.")
def create(name: str, source: str, description: str | None) -> None:
    """A template, or the next version of one that is there, with what INSTANCE was launched with."""
    client = options.client()
    id = resolve(client, [source])[0].instance_id
    data = client.ec2("GetLaunchTemplateData", MadeVersion, InstanceId=id).launch_template_data
    parameters = {"LaunchTemplateData": data, "VersionDescription": description}
    if _exists(client, name):
        made = client.ec2("CreateLaunchTemplateVersion", MadeVersion, **_reference(name), **parameters)
        say(f"version {made.launch_template_version.version_number} of {name}; the default stays what it was")
    else:
        client.ec2("CreateLaunchTemplate", MadeTemplate, LaunchTemplateName=name, **parameters)
    _show(client.ec2("DescribeLaunchTemplates", Templates, LaunchTemplateNames=[name]).launch_templates)


def _exists(client: Client, name: str) -> bool:
    filters = [{"Name": "launch-template-name", "Values": [name]}]
    return bool(client.ec2("DescribeLaunchTemplates", Templates, Filters=filters).launch_templates)


@template.command("default")
@click.argument("name", metavar="TEMPLATE")
@click.argument("version", type=click.IntRange(1))
def default_(name: str, version: int) -> None:
    """Launch VERSION when nobody names one."""
    options.client().ec2("ModifyLaunchTemplate", Nothing, DefaultVersion=str(version), **_reference(name))


@template.command()
@click.argument("name", metavar="TEMPLATE")
def delete(name: str) -> None:
    """A template with all its versions; what was launched from it stays."""
    options.client().ec2("DeleteLaunchTemplate", Nothing, **_reference(name))
