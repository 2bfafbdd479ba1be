"""Launch templates: Create, Describe, Modify, DeleteLaunchTemplate. A template is only remembered here; whether it can be
launched is judged when it is (`launch_template_data.py`), as at EC2, except for what no template may say.

Not here: versions beyond the first (`launch_template_versions.py`). Invariant: a template has its default version.
"""

import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import owned
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.shapes import NO_OPERATOR
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import TEMPLATE_TOKEN_MAX, check_token, known_result, remember_result
from alto.api.ec2.user_data import check_user_data
from alto.api.wire.xml import timestamp
from alto.model.errors import Refused
from alto.model.launch_templates import LaunchParameters, LaunchTemplate, LaunchTemplateVersion, version_id
from alto.store.store import Reader, Tx

_NAME = re.compile(r"[A-Za-z0-9().\-/_]{3,128}")
DESCRIPTION_MAX = 255
PAGE_MAX = 200
TAGGED = ("instance", "volume", "network-interface", "spot-instances-request")  # by what is launched
# "Launch template restrictions", EC2 user guide.
TEMPLATES_MAX = 5000


class CreateLaunchTemplateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    client_token: str | None = None
    launch_template_name: str | None = None
    version_description: str | None = None
    launch_template_data: LaunchParameters = {}
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_launch_template(call: Call, request: CreateLaunchTemplateRequest) -> dict[str, object]:
    name = request.launch_template_name or ""
    if not _NAME.fullmatch(name):
        raise Refused(
            "InvalidLaunchTemplateName.MalformedException",
            "A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and the "
            "following characters: - ( ) . / _.",
        )
    check_token(request.client_token, TEMPLATE_TOKEN_MAX)
    check_version(request.version_description, request.launch_template_data)
    tags = tags_for(request.tag_specifications, "launch-template")["launch-template"]
    now = call.world.clock.now()
    template = LaunchTemplate(
        id=draw_id(call.world.chance, "lt"),
        account=call.account,
        region=call.region,
        name=name,
        created_at=now,
        tags=tags,
    )
    first = LaunchTemplateVersion(
        id=version_id(template.id, 1),
        template_id=template.id,
        number=1,
        description=request.version_description,
        created_at=now,
        parameters=request.launch_template_data,
    )

    def body(tx: Tx) -> LaunchTemplate:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return owned(tx, call, LaunchTemplate, known)
        if find_by_name(tx, call, name) is not None:
            raise Refused("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
        if tx.count(LaunchTemplate, account=call.account, region=call.region) >= TEMPLATES_MAX:
            raise Refused("TemplateLimitExceeded", f"You have reached the limit of {TEMPLATES_MAX} launch templates.")
        tx.put(first)
        remember_result(tx, call, request.client_token, template.id, now)
        return tx.put(template)

    return {"LaunchTemplate": template_shape(await call.store.write(body))}


def check_version(description: str | None, parameters: LaunchParameters) -> None:
    if not parameters:
        raise Refused("MissingParameter", "The request must contain the parameter LaunchTemplateData")
    if description is not None and len(description) > DESCRIPTION_MAX:
        raise Refused("InvalidParameterValue", f"VersionDescription is limited to {DESCRIPTION_MAX} characters")
    user_data = parameters.get("UserData")
    if isinstance(user_data, str):
        check_user_data(user_data)
    if "InstanceType" in parameters and "InstanceRequirements" in parameters:
        raise Refused("InvalidParameterCombination", "A launch template has InstanceType or InstanceRequirements, not both.")
    specifications = parameters.get("TagSpecifications")
    for specification in specifications if isinstance(specifications, list) else ():
        _check_tagged(specification.get("ResourceType"), specification.get("Tags"))


def _check_tagged(resource_type: str | None, tags: object) -> None:
    if not resource_type:
        raise Refused("InvalidTagSpecification.Malformed", "The resource type cannot be null or empty")
    if resource_type not in TAGGED:
        raise Refused("InvalidParameterValue", f"'{resource_type}' is not a valid taggable resource type for this operation.")
    if not tags:
        raise Refused("InvalidTagSpecification.Malformed", "The tags cannot be null or empty")


def template_shape(template: LaunchTemplate) -> dict[str, object]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": template.created_at,
        "CreatedBy": f"arn:aws:iam::{template.account}:root",
        "DefaultVersionNumber": template.default_version,
        "LatestVersionNumber": template.latest_version,
        "Tags": shown(template.tags),
        "Operator": NO_OPERATOR,
    }


def find_by_name(reader: Reader, call: Call, name: str) -> LaunchTemplate | None:
    found = reader.where(LaunchTemplate, account=call.account, region=call.region, name=name, limit=1)
    return found[0] if found else None


def the_template(reader: Reader, call: Call, id: str | None, name: str | None) -> LaunchTemplate:
    """The one that a request names; `check_named` has seen both. Raises: Refused, NotFound."""
    if id:
        return owned(reader, call, LaunchTemplate, id)
    found = find_by_name(reader, call, name or "")
    if found is None:
        raise Refused(
            "InvalidLaunchTemplateName.NotFoundException",
            f"The specified launch template, with template name {name}, does not exist.",
        )
    return found


def check_named(id: str | None, name: str | None, verb: str) -> None:
    """Exactly one of both. `verb`: what is to be done with the template."""
    if id and name:
        raise Refused(
            "InvalidParameterCombination",
            f"Either provide launch template ID or launch template name to {verb} the template.",
        )
    if not id and not name:
        raise Refused("MissingParameter", "The request must contain the parameter launch template ID or launch template name")


class DescribeLaunchTemplatesRequest(msgspec.Struct, frozen=True, rename="pascal"):
    launch_template_ids: tuple[str, ...] = ()
    launch_template_names: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    max_results: int | None = None
    next_token: str | None = None
    include_managed_resources: bool = False  # there are none


_FILTERS: Filters[LaunchTemplate] = {
    "create-time": lambda template: timestamp(template.created_at),
    "launch-template-id": lambda template: template.id,
    "launch-template-name": lambda template: template.name,
}


async def describe_launch_templates(call: Call, request: DescribeLaunchTemplatesRequest) -> dict[str, object]:
    """Those named in the order in which they are named, else the oldest first."""
    check_page(request.max_results, low=1, high=PAGE_MAX)
    matches = matcher(request.filters, _FILTERS)

    def read(reader: Reader) -> list[LaunchTemplate]:
        found: dict[str, LaunchTemplate] = {}
        for id in request.launch_template_ids:
            found[id] = owned(reader, call, LaunchTemplate, id)
        for name in request.launch_template_names:
            template = find_by_name(reader, call, name)
            if template is None:
                raise Refused(
                    "InvalidLaunchTemplateName.NotFoundException",
                    "At least one of the launch templates specified in the request does not exist.",
                )
            found[template.id] = template
        if not request.launch_template_ids and not request.launch_template_names:
            return reader.where(LaunchTemplate, account=call.account, region=call.region)
        return list(found.values())

    found = [template for template in call.store.read(read) if matches(template)]
    if request.launch_template_ids or request.launch_template_names:
        return listing("LaunchTemplates", [template_shape(template) for template in found], None)
    page = page_of_list(
        found,
        lambda template: f"{template.created_at:018.6f} {template.id}",
        scope="launch_templates",
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("LaunchTemplates", [template_shape(template) for template in page.items], page.next_token)


class ModifyLaunchTemplateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    client_token: str | None = None
    launch_template_id: str | None = None
    launch_template_name: str | None = None
    default_version: str | None = None


async def modify_launch_template(call: Call, request: ModifyLaunchTemplateRequest) -> dict[str, object]:
    id, name, version = request.launch_template_id, request.launch_template_name, request.default_version
    check_named(id, name, "modify")
    if not version:
        raise Refused("MissingParameter", "The request must contain the parameter SetDefaultVersion")

    def body(tx: Tx) -> LaunchTemplate:
        template = the_template(tx, call, id, name)
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
        if tx.find(LaunchTemplateVersion, version_id(template.id, number)) is None:
            raise Refused(
                "InvalidLaunchTemplateId.VersionNotFound",
                f"The launch template version {version[:20]} is not found for the specified launch template.",
            )
        if template.default_version == number:
            return template
        return tx.put(replace(template, default_version=number))

    return {"LaunchTemplate": template_shape(await call.store.write(body))}


class DeleteLaunchTemplateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    launch_template_id: str | None = None
    launch_template_name: str | None = None


async def delete_launch_template(call: Call, request: DeleteLaunchTemplateRequest) -> dict[str, object]:
    """With all its versions. What was launched from it lives on."""
    id, name = request.launch_template_id, request.launch_template_name
    check_named(id, name, "delete")

    def body(tx: Tx) -> LaunchTemplate:
        template = the_template(tx, call, id, name)
        for version in tx.where(LaunchTemplateVersion, template_id=template.id):
            tx.delete(LaunchTemplateVersion, version.id)
        tx.delete(LaunchTemplate, template.id)
        return template

    return {"LaunchTemplate": template_shape(await call.store.write(body))}


OPERATIONS: Mapping[str, Operation] = {
    "CreateLaunchTemplate": Operation(CreateLaunchTemplateRequest, create_launch_template),
    "DeleteLaunchTemplate": Operation(DeleteLaunchTemplateRequest, delete_launch_template),
    "DescribeLaunchTemplates": Operation(DescribeLaunchTemplatesRequest, describe_launch_templates),
    "ModifyLaunchTemplate": Operation(ModifyLaunchTemplateRequest, modify_launch_template),
}
