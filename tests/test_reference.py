"""Goal: `docs/reference/ec2.md` says exactly which operations and parameters there are. Method: it is generated from the
operations' own tables and request structs, and this test compares. To write it again: `python -m tests.test_reference`.
"""

from pathlib import Path

from alto.api.ec2.instances import GetConsoleOutputRequest
from alto.api.ec2.operations import OPERATIONS as EC2
from alto.api.sts.operations import OPERATIONS as STS
from alto.api.wire.requests import Honoured, honoured

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "ec2.md"

HEAD = """# EC2 and STS operations

Generated from the code; do not edit. Each operation takes the parameters listed, as boto3 spells them, and `DryRun`. Any other
parameter of Amazon's is refused as `UnsupportedOperation` and never ignored, and so is any other operation. `Filters` are all
that Amazon documents for the operation.
"""


def shown(known: Honoured) -> str:
    parts = []
    for name, inner in known.items():
        parts.append(name if inner is None or name == "Filters" else f"{name} {{{shown(inner)}}}")
    return ", ".join(parts)


def page() -> str:
    ec2 = {**{name: operation.request for name, operation in EC2.items()}, "GetConsoleOutput": GetConsoleOutputRequest}
    sts = {name: operation.request for name, operation in STS.items()}
    lines = [HEAD]
    for service, requests in (("EC2", ec2), ("STS", sts)):
        lines += [f"## {service}", "", "| Operation | Parameters |", "|---|---|"]
        lines += [f"| {name} | {shown(honoured(requests[name])) or '-'} |" for name in sorted(requests)]
        lines.append("")
    return "\n".join(lines)


def test_the_reference_is_what_the_code_offers() -> None:
    assert PAGE.read_text() == page(), "python -m tests.test_reference"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
