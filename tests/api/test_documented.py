"""Goal: no documented filter is missing, pages have the documented bounds, and no listing stumbles over a wish for what
services of Amazon's manage. Method: filters and bounds are read out of
botocore's copy of the API reference, and each is sent alone; an undocumented filter and a longer page must be refused."""

import re
from typing import Any

import pytest

from alto.api.ec2.operations import OPERATIONS
from tests.api.cloud import MODEL, NEEDED, Answered, Tenant

# Lists of one name and a value, where the reference gives a pattern.
_NAME = re.compile(r"<code>([a-zA-Z][a-zA-Z0-9.:_-]+)</code>(?::&lt;key&gt;)? ?[-\u2013]")

# A documented filter for what Alto does not have at all is known too; nothing is left out on purpose so far.
LEFT_OUT: dict[str, set[str]] = {}


def parameter(operation: str) -> str | None:
    """Filters, but Filter where Amazon says it so."""
    shape = MODEL.operation_model(operation).input_shape
    return next((name for name in ("Filters", "Filter") if shape is not None and name in shape.members), None)


def documented() -> list[tuple[str, str]]:
    found = []
    for operation in sorted(OPERATIONS):
        name = parameter(operation)
        if name is None:
            continue
        text = MODEL.operation_model(operation).input_shape.members[name].documentation
        if "<ul>" not in text:
            continue
        # The outer list only: lists within it are of values.
        text = re.sub(r"<ul>.*?</ul>", "", text[text.index("<ul>") + 4 : text.rindex("</ul>")])
        for name in _NAME.findall(text):
            found.append((operation, "tag:key" if name == "tag" else name))
    return found


def needed(tenant: Tenant, operation: str) -> dict[str, Any]:
    if operation in ("GetSecurityGroupsForVpc", "DescribeStaleSecurityGroups"):
        return {"VpcId": tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]}
    if operation.startswith("GetManagedPrefixList"):
        made = tenant("CreateManagedPrefixList", PrefixListName="list", MaxEntries=1, AddressFamily="IPv4")
        return {"PrefixListId": made["PrefixList"]["PrefixListId"]}
    if operation == "DescribeAddressesAttribute":
        return {"Attribute": "domain-name"}
    return NEEDED.get(operation, {})


def pages() -> list[tuple[str, int, int]]:
    """Least and most of MaxResults, where the model has them or, for one operation, its words."""
    found = [("DescribeHosts", 5, 500)]
    for operation in sorted(OPERATIONS):
        shape = MODEL.operation_model(operation).input_shape
        bounds = shape.members["MaxResults"].metadata if shape is not None and "MaxResults" in shape.members else {}
        if "max" in bounds:
            found.append((operation, bounds["min"], bounds["max"]))
    return found


@pytest.mark.parametrize(("operation", "name"), documented())
def test_each_documented_filter_is_known(tenant: Tenant, operation: str, name: str) -> None:
    if name in LEFT_OUT.get(operation, set()):
        pytest.skip("left out on purpose")
    # Nothing has this value, and DescribeSecurityGroupRules refuses what is no id of a group.
    filters = {str(parameter(operation)): [{"Name": name, "Values": ["sg-00000000"]}]}
    tenant(operation, **needed(tenant, operation), **filters)


@pytest.mark.parametrize("operation", sorted({operation for operation, _ in documented()}))
def test_an_unknown_filter_is_refused(tenant: Tenant, operation: str) -> None:
    filters = {str(parameter(operation)): [{"Name": "colour", "Values": ["red"]}]}
    with pytest.raises(Answered, match="InvalidParameterValue: The filter 'colour' is invalid"):
        tenant(operation, **needed(tenant, operation), **filters)


def with_managed() -> list[str]:
    return [one for one in sorted(OPERATIONS) if "IncludeManagedResources" in MODEL.operation_model(one).input_shape.members]


@pytest.mark.parametrize("operation", with_managed())
def test_what_services_manage_may_be_wished_for_and_is_not_there(tenant: Tenant, operation: str) -> None:
    assert tenant(operation, **needed(tenant, operation), IncludeManagedResources=True) == tenant(
        operation, **needed(tenant, operation)
    )


@pytest.mark.parametrize(("operation", "least", "most"), pages())
def test_pages_have_the_documented_bounds(tenant: Tenant, operation: str, least: int, most: int) -> None:
    more = needed(tenant, operation)
    for allowed in (least, most):
        tenant(operation, **more, MaxResults=allowed)
    # Clients refuse less than the least themselves.
    with pytest.raises(Answered, match=rf"InvalidParameterValue: Value \( {most + 1} \) for parameter maxResults is invalid"):
        tenant(operation, **more, MaxResults=most + 1)


def test_enough_was_read() -> None:
    assert len(pages()) > 20
    assert len(with_managed()) == 8
    names = {name for operation, name in documented() if operation == "DescribeSubnets"}
    assert {"availability-zone", "vpc-id", "tag:key", "tag-key", "default-for-az"} <= names
