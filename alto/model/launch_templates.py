"""Launch templates: parameters of RunInstances under a name, in numbered versions that never change."""

from typing import ClassVar

from alto.model.records import Record, Tags

LaunchParameters = dict[str, object]
"""As EC2's RequestLaunchTemplateData names them: the wire has judged their shapes; a launch judges what they ask for."""


class LaunchTemplate(Record, frozen=True, kw_only=True):
    """`latest_version` is the greatest that exists; `versions_made` never shrinks, so that no number is given twice."""

    KIND: ClassVar[str] = "launch_template"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region", "name"),)
    GUARDS: ClassVar[tuple[str, ...]] = ("default_version <= latest_version", "latest_version <= versions_made")

    account: str
    region: str
    name: str
    default_version: int = 1
    latest_version: int = 1
    versions_made: int = 1
    created_at: float
    tags: Tags = {}


class LaunchTemplateVersion(Record, frozen=True, kw_only=True):
    """`id` is `version_id` of its template and number."""

    KIND: ClassVar[str] = "launch_template_version"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("template_id",),)

    template_id: str
    number: int
    description: str | None = None
    created_at: float
    parameters: LaunchParameters


def version_id(template_id: str, number: int) -> str:
    """Sorts by number."""
    return f"{template_id}.{number:09d}"
