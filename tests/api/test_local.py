"""Goal: what AWS has no word for is shown to whom it concerns: a tenant learns of what kind its hosts are, and nothing of the
machine beneath or of other tenants. Method: the same requests to /alto/v1 by a tenant and by the operator.
"""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.api.cloud import Cloud, Tenant
from tests.api.test_regions import host


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
