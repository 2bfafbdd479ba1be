"""Tags that are not in the record of what they are on."""

from typing import ClassVar

from alto.model.records import Record, Tags


def added_key(resource_id: str, account: str, region: str) -> str:
    return f"{resource_id}/{account}/{region}"


class AddedTags(Record, frozen=True, kw_only=True):
    """What an account has written on an image or a snapshot that another shares with it. Nobody else sees it, nor does the
    owner. A row has tags, and goes with what they are on."""

    KIND: ClassVar[str] = "added_tags"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"), ("resource_id",))

    account: str
    region: str
    resource_id: str
    tags: Tags
