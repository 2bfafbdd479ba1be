"""Goal: `docs/reference` says exactly which operations, parameters, filters and errors there are, and which of Amazon's
operations there are not. Method: its pages are generated from the operations' own tables, request structs and code, and this
test compares. To write them again: `python -m tests.test_reference`.
"""

from pathlib import Path

import pytest

from alto.api.ec2.instances import console_operations
from alto.api.ec2.operations import OPERATIONS
from alto.api.sts.operations import OPERATIONS as STS
from alto.api.wire.requests import Honoured, honoured
from tests.api.cloud import MODEL
from tests.api.test_documented import LEFT_OUT, documented
from tests.operation_facts import GENERAL, errors_of


class NoConsoles:
    async def console(self, host_id: str, instance_id: str, *, timeout_s: float) -> bytes:
        raise NotImplementedError  # operations are only read here


EC2 = {**OPERATIONS, **console_operations(NoConsoles())}

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"

HEAD = """# EC2 and STS operations

Generated from the code; do not edit. Each operation takes the parameters listed, as boto3 spells them, and `DryRun`. Any other
parameter of Amazon's is refused as `UnsupportedOperation` and never ignored, and so is any other operation. Filters are all
that Amazon documents for the operation. Their names, and every operation's errors, are in coverage.md.
"""

COVERAGE = f"""# Coverage of EC2's operations

Generated from the code; do not edit. Parameters are in ec2.md. Errors are the operation's own: any operation may also answer
{", ".join(f"`{code}`" for code in sorted(GENERAL))}, `UnknownParameter`, `DryRunOperation`, and those of
authentication (`AuthFailure`, `SignatureDoesNotMatch`, `InvalidClientTokenId`, `RequestExpired`...).
"""


def shown(known: Honoured) -> str:
    parts = []
    for name, inner in known.items():
        parts.append(name if inner is None or name in ("Filters", "Filter") else f"{name} {{{shown(inner)}}}")
    return ", ".join(parts)


def page() -> str:
    ec2 = {name: operation.request for name, operation in EC2.items()}
    sts = {name: operation.request for name, operation in STS.items()}
    lines = [HEAD]
    for service, requests in (("EC2", ec2), ("STS", sts)):
        lines += [f"## {service}", "", "| Operation | Parameters |", "|---|---|"]
        lines += [f"| {name} | {shown(honoured(requests[name])) or '-'} |" for name in sorted(requests)]
        lines.append("")
    return "\n".join(lines)


def coverage() -> str:
    filters: dict[str, list[str]] = {}
    for operation, name in documented():
        if name not in LEFT_OUT.get(operation, set()):
            filters.setdefault(operation, []).append(name)
    lines = [COVERAGE, "| Operation | Filters | Errors |", "|---|---|---|"]
    for name in sorted(EC2):
        offered = "all documented: " + ", ".join(sorted(filters[name])) if name in filters else "-"
        lines.append(f"| {name} | {offered} | {', '.join(sorted(errors_of(EC2[name]))) or '-'} |")
    missing = [name for name in MODEL.operation_names if name not in EC2]
    lines += ["", "## Not offered", ""]
    lines += [f"{len(missing)} of Amazon's {len(MODEL.operation_names)} operations answer `UnsupportedOperation`:", ""]
    lines += [", ".join(missing) + ".", ""]
    return "\n".join(lines)


PAGES = {"ec2.md": page, "coverage.md": coverage}


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_what_the_code_offers(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "python -m tests.test_reference"


def test_errors_are_found_where_an_operation_gets_them() -> None:
    """By reading what it calls, also in other modules and rooms; and nothing of what it does not."""
    run = errors_of(EC2["RunInstances"])
    assert {"InvalidAMIID.NotFound", "InvalidKeyPair.NotFound", "InsufficientInstanceCapacity"} <= run
    assert "InvalidVolume.NotFound" not in errors_of(EC2["DescribeRegions"])


if __name__ == "__main__":
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make())
