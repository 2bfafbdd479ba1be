"""Versions of launch templates: Create, Describe, DeleteLaunchTemplateVersions, and how a request names one.

A version never changes. `$Latest` is the greatest that exists, `$Default` the one that the template says.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, Values, matcher
from alto.api.ec2.launch_templates import PAGE_MAX, check_named, check_version, the_template
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.shapes import NO_OPERATOR
from alto.api.ec2.tokens import TEMPLATE_TOKEN_MAX, check_token, known_result, remember_result
from alto.api.wire.xml import timestamp
from alto.model.errors import Refused
from alto.model.launch_templates import LaunchParameters, LaunchTemplate, LaunchTemplateVersion, version_id
from alto.store.store import Reader, Tx

LATEST, DEFAULT = "$Latest", "$Default"
# "Launch template restrictions", EC2 user guide; and what one DeleteLaunchTemplateVersions takes.
VERSIONS_MAX = 10_000
MADE_MAX = 10**9 - 1  # numbers, with those of deleted versions: nobody makes so many
DELETED_MAX = 200

# AWS's own words, typographic quotes included.
_WHICH = (
    "To describe the launch template data for all your launch templates, for <--versions> specify <$Latest>, <$Default>, or "
    "both, and omit <--launch-template-id>, <--launch-template-name>, and version numbers. To describe the launch template "
    "data for a specific launch template, specify <--launch-template-id> or <--launch-template-name>, and for <--versions> "
    "specify one or more of the following values: <$Latest>, <$Default>, or one or more version numbers."
).translate({ord("<"): "\u2018", ord(">"): "\u2019"})


def number_of(template: LaunchTemplate, version: str) -> int:
    """The number that a request's word for a version means; it need not exist. Raises: Refused."""
    if version == LATEST:
        return template.latest_version
    if version == DEFAULT:
        return template.default_version
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise Refused(
            "InvalidParameterValue", f"'{version[:40]}' is no launch template version: a number, {LATEST} or {DEFAULT}"
        )
    return int(version)


def the_version(reader: Reader, template: LaunchTemplate, version: str) -> LaunchTemplateVersion:
    """Raises: Refused (InvalidLaunchTemplateId.VersionNotFound)."""
    number = number_of(template, version)
    found = reader.find(LaunchTemplateVersion, version_id(template.id, number))
    if found is None:
        raise Refused(
            "InvalidLaunchTemplateId.VersionNotFound",
            f"Could not find the specified version {number} for the launch template with ID {template.id}.",
        )
    return found


class CreateLaunchTemplateVersionRequest(msgspec.Struct, frozen=True, rename="pascal"):
    client_token: str | None = None
    launch_template_id: str | None = None
    launch_template_name: str | None = None
    source_version: str | None = None
    version_description: str | None = None
    launch_template_data: LaunchParameters = {}
    resolve_alias: bool = False  # there are no aliases: an image is always an id here


async def create_launch_template_version(call: Call, request: CreateLaunchTemplateVersionRequest) -> dict[str, object]:
    id, name = request.launch_template_id, request.launch_template_name
    check_named(id, name, "create a version of")
    check_token(request.client_token, TEMPLATE_TOKEN_MAX)
    check_version(request.version_description, request.launch_template_data)
    now = call.world.clock.now()

    def body(tx: Tx) -> dict[str, object]:
        template = the_template(tx, call, id, name)
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return version_shape(template, tx.get(LaunchTemplateVersion, known))
        parameters = request.launch_template_data
        if request.source_version:
            parameters = {**_inherited(the_version(tx, template, request.source_version)), **parameters}
        if tx.count(LaunchTemplateVersion, template_id=template.id) >= VERSIONS_MAX:
            raise Refused("TemplateVersionLimitExceeded", f"A launch template has at most {VERSIONS_MAX} versions.")
        number = template.versions_made + 1
        made = tx.put(
            LaunchTemplateVersion(
                id=version_id(template.id, number),
                template_id=template.id,
                number=number,
                description=request.version_description,
                created_at=now,
                parameters=parameters,
            )
        )
        remember_result(tx, call, request.client_token, made.id, now)
        return version_shape(tx.put(replace(template, latest_version=number, versions_made=number)), made)

    return {"LaunchTemplateVersion": await call.store.write(body)}


def _inherited(source: LaunchTemplateVersion) -> LaunchParameters:
    """Without the snapshots of its devices: a new version has those that it names itself (API reference, SourceVersion)."""
    parameters = dict(source.parameters)
    devices = parameters.get("BlockDeviceMappings")
    if isinstance(devices, list):
        parameters["BlockDeviceMappings"] = [
            {**one, "Ebs": {name: value for name, value in one["Ebs"].items() if name != "SnapshotId"}} if "Ebs" in one else one
            for one in devices
        ]
    return parameters


def version_shape(template: LaunchTemplate, version: LaunchTemplateVersion) -> dict[str, object]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": version.number,
        "VersionDescription": version.description,
        "CreateTime": version.created_at,
        "CreatedBy": f"arn:aws:iam::{template.account}:root",
        "DefaultVersion": version.number == template.default_version,
        "LaunchTemplateData": version.parameters,
        "Operator": NO_OPERATOR,
    }


class DescribeLaunchTemplateVersionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    launch_template_id: str | None = None
    launch_template_name: str | None = None
    versions: tuple[str, ...] = ()
    min_version: str | None = None
    max_version: str | None = None
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    resolve_alias: bool = False
    include_managed_resources: bool = False  # there are none


_Pair = tuple[LaunchTemplate, LaunchTemplateVersion]


def _parameter(*path: str) -> Callable[[_Pair], Values]:
    """What stands at a path of the parameters, in each element where a list is on the way."""

    def values(pair: _Pair) -> Values:
        found: list[object] = [pair[1].parameters]
        for name in path:
            within = [one[name] for one in found if isinstance(one, dict) and name in one]
            found = [inner for one in within for inner in (one if isinstance(one, list) else [one])]
        return [one for one in found if isinstance(one, str | int | float)]

    return values


_FILTERS: Filters[_Pair] = {
    "create-time": lambda pair: timestamp(pair[1].created_at),
    "ebs-optimized": _parameter("EbsOptimized"),
    "host-resource-group-arn": _parameter("Placement", "HostResourceGroupArn"),
    "http-endpoint": _parameter("MetadataOptions", "HttpEndpoint"),
    "http-protocol-ipv4": lambda pair: "enabled",
    "http-tokens": _parameter("MetadataOptions", "HttpTokens"),
    "iam-instance-profile": _parameter("IamInstanceProfile", "Arn"),
    "image-id": _parameter("ImageId"),
    "instance-type": _parameter("InstanceType"),
    "is-default-version": lambda pair: pair[0].default_version == pair[1].number,
    "kernel-id": _parameter("KernelId"),
    "license-configuration-arn": _parameter("LicenseSpecifications", "LicenseConfigurationArn"),
    "network-card-index": _parameter("NetworkInterfaces", "NetworkCardIndex"),
    "ram-disk-id": _parameter("RamDiskId"),
}


async def describe_launch_template_versions(call: Call, request: DescribeLaunchTemplateVersionsRequest) -> dict[str, object]:
    """Of one template those asked for, or all; of all templates the latest, the default ones, or both. The newest first, as in
    the example of the API reference: scripts take the first for the latest."""
    check_page(request.max_results, low=1, high=PAGE_MAX)
    id, name = request.launch_template_id, request.launch_template_name
    if id and name:
        check_named(id, name, "describe")
    if not id and not name:
        if not request.versions:
            raise Refused("MissingParameter", _WHICH)
        if not {LATEST, DEFAULT}.issuperset(request.versions):
            raise Refused("InvalidParameterValue", _WHICH)
    if request.versions and (request.min_version or request.max_version):
        raise Refused("InvalidParameterCombination", "Versions cannot be used with MinVersion or MaxVersion.")
    matches = matcher(request.filters, _FILTERS, tags=lambda pair: {})

    def read(reader: Reader) -> list[_Pair]:
        if not id and not name:
            templates = reader.where(LaunchTemplate, account=call.account, region=call.region)
            return [(one, found) for one in templates for found in _named(reader, one, request.versions)]
        template = the_template(reader, call, id, name)
        if request.versions:
            return [(template, found) for found in _named(reader, template, request.versions)]
        least = number_of(template, request.min_version) if request.min_version else 1
        most = number_of(template, request.max_version) if request.max_version else template.versions_made
        every = reader.where(LaunchTemplateVersion, template_id=template.id)
        return [(template, found) for found in every if least <= found.number <= most]

    page = page_of_list(
        [pair for pair in call.store.read(read) if matches(pair)],
        _newest_first,
        scope="launch_template_versions",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("LaunchTemplateVersions", [version_shape(*pair) for pair in page.items], page.next_token)


def _newest_first(pair: _Pair) -> str:
    template, version = pair
    return f"{template.id} {MADE_MAX - version.number:09d}"


def _named(reader: Reader, template: LaunchTemplate, versions: Sequence[str]) -> list[LaunchTemplateVersion]:
    """Each once."""
    found = (the_version(reader, template, version) for version in versions)
    return list({one.id: one for one in found}.values())


class DeleteLaunchTemplateVersionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    launch_template_id: str | None = None
    launch_template_name: str | None = None
    versions: tuple[str, ...] = ()


async def delete_launch_template_versions(call: Call, request: DeleteLaunchTemplateVersionsRequest) -> dict[str, object]:
    """Those that can be deleted are; of each other the answer says why not."""
    id, name = request.launch_template_id, request.launch_template_name
    check_named(id, name, "delete versions of")
    if not request.versions:
        raise Refused("MissingParameter", "The request must contain the parameter LaunchTemplateVersion")
    if len(request.versions) > DELETED_MAX:
        raise Refused("InvalidParameterValue", f"At most {DELETED_MAX} versions can be deleted by one request")

    def body(tx: Tx) -> dict[str, object]:
        template = the_template(tx, call, id, name)
        done, undone = [], []
        for version in dict.fromkeys(request.versions):
            number = number_of(template, version)
            item = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": number}
            code, why = "", ""
            if tx.find(LaunchTemplateVersion, version_id(template.id, number)) is None:
                code, why = "launchTemplateVersionDoesNotExist", f"The launch template version {number} does not exist."
            elif number == template.default_version:
                code, why = "unexpectedError", "The default version of a launch template cannot be deleted."
            if code:
                undone.append({**item, "ResponseError": {"Code": code, "Message": why}})
                continue
            tx.delete(LaunchTemplateVersion, version_id(template.id, number))
            done.append(item)
        left = tx.where(LaunchTemplateVersion, template_id=template.id)
        if left[-1].number != template.latest_version:
            tx.put(replace(template, latest_version=left[-1].number))
        return {
            "SuccessfullyDeletedLaunchTemplateVersions": done,
            "UnsuccessfullyDeletedLaunchTemplateVersions": undone,
        }

    return await call.store.write(body)


OPERATIONS: Mapping[str, Operation] = {
    "CreateLaunchTemplateVersion": Operation(CreateLaunchTemplateVersionRequest, create_launch_template_version),
    "DeleteLaunchTemplateVersions": Operation(DeleteLaunchTemplateVersionsRequest, delete_launch_template_versions),
    "DescribeLaunchTemplateVersions": Operation(DescribeLaunchTemplateVersionsRequest, describe_launch_template_versions),
}
