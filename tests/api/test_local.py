"""Goal: what AWS has no word for is shown to whom it concerns: a tenant learns of what kind its hosts are, and nothing of the
machine beneath or of other tenants. Method: the same requests to /alto/v1 by a tenant and by the operator.
"""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host


def told(tenant: Tenant, path: str) -> Any:
    status, answer = tenant.local("GET", path)
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("path", ["hosts", "status"])
def test_a_tenant_learns_the_kind_of_a_host_and_nothing_of_the_machine(
    cloud: Cloud, tenant: Tenant, operator: Tenant, path: str
) -> None:
    cloud.put(replace(host(1), vcpus_used=3, instances=2))
    (shown,) = told(tenant, path)["hosts"]
    assert shown == {"id": "h-1", "name": "h-1", "kind": "simulated", "accelerator": "none", "state": "ready"}
    (whole,) = told(operator, path)["hosts"]
    assert (whole["name"], whole["vcpus_used"], whole["instances"]) == ("host1", 3, 2)


def test_only_operators_see_what_the_loops_last_failed_at(tenant: Tenant, operator: Tenant) -> None:
    assert "somebody" not in str(told(tenant, "status"))
    assert "somebody" in str(told(operator, "status"))


@pytest.mark.parametrize(("method", "path"), [("GET", "accounts"), ("POST", "accounts"), ("GET", "audit")])
def test_what_is_beneath_all_accounts_is_the_operators(tenant: Tenant, operator: Tenant, method: str, path: str) -> None:
    status, answer = tenant.local(method, path)
    assert (status, answer["error"]["code"]) == (403, "UnauthorizedOperation")
    assert operator.local(method, path)[0] in (200, 201)


SERVICE = {"name": "web"}


@pytest.mark.parametrize(
    "wish",
    [
        {"health_path": "/a'b"},  # a quote would end the balancer's own
        {"health_path": "/" + "x" * 1024},
        {"health_path": "/a\nb"},
        {"tags": {"aws:cloudformation:stack-name": "not mine"}},
        {"tags": {"": "x"}},
        {"tags": {"k": "\x00"}},
        {"tags": {"k": "v" * 257}},
        {"tags": {str(number): "" for number in range(50)}},  # with Name, one too many
    ],
)
def test_a_service_that_could_never_work_is_refused_at_once(tenant: Tenant, wish: dict[str, Any]) -> None:
    status, answer = tenant.local("POST", "services", SERVICE | wish)
    assert status == 400
    assert answer["error"]["code"] in ("InvalidParameterValue", "TagLimitExceeded")
    assert told(tenant, "services") == {"services": []}


@pytest.mark.parametrize("name", ["", " a", "a\nAWS_ACCESS_KEY_ID=x", "x" * 65])
def test_an_account_has_a_plain_name(operator: Tenant, name: str) -> None:
    status, answer = operator.local("POST", "accounts", {"name": name})
    assert (status, answer["error"]["code"]) == (400, "InvalidParameterValue")


@pytest.mark.parametrize("path", ["ec2/CreateTags", "services", "accounts"])
@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"a":' + b"[" * 100_000, b'{"name":' + b"[" * 30 + b"]" * 30 + b"}", b'{"a":"\\ud800"}', b"\xff"]
)
def test_a_body_that_makes_no_sense_is_the_callers_fault(operator: Tenant, path: str, body: bytes) -> None:
    status, answer = operator.local("POST", path, body)
    assert (status, answer["error"]["code"] in ("MalformedQueryString", "InvalidParameterValue")) == (400, True), answer


def test_text_that_no_answer_could_show_is_refused_here_as_on_the_query_wire(tenant: Tenant) -> None:
    vpc = tenant("DescribeVpcs")["Vpcs"][0]["VpcId"]
    status, answer = tenant.local("POST", "ec2/CreateTags", {"Resources": [vpc], "Tags": [{"Key": "k", "Value": "\x00"}]})
    assert (status, answer["error"]["code"]) == (400, "InvalidParameterValue")
    assert tenant("DescribeVpcs")["Vpcs"][0]["Tags"] == []


def test_the_master_key_is_changed_by_operators_where_it_is_in_a_file(tenant: Tenant, operator: Tenant) -> None:
    assert tenant.local("POST", "master-key/rotate")[0] == 403
    status, answer = operator.local("POST", "master-key/rotate")
    assert (status, answer["error"]["code"]) == (400, "UnsupportedOperation")
