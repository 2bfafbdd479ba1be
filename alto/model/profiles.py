"""Instance profiles as instances have them: names of roles, given by whoever launches.

There is no identity service yet, so a profile is what its ARN says, and no role stands behind it: an instance hears of its
profile and gets no credentials. What IAM knows of profiles is not here.
"""

import hashlib
from typing import ClassVar

import msgspec

from alto.model.records import Record


class InstanceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance says of its own; the ProfileAssociation of that id says the same, and both are written in one
    transaction."""

    association_id: str  # "iip-assoc-..."
    arn: str
    since: float

    @property
    def id(self) -> str:
        return profile_id(self.arn)

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]


class ProfileAssociation(Record, frozen=True, kw_only=True):
    """An id is used once: another profile in its place is another association."""

    KIND: ClassVar[str] = "profile_association"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account", "region"),)
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("instance_id",),)

    account: str
    region: str
    instance_id: str
    arn: str
    since: float


def profile_id(arn: str) -> str:
    """Looks as IAM's ids do, and is the same for the same profile, which nobody keeps."""
    return "AIPA" + hashlib.blake2s(arn.encode(), digest_size=9).hexdigest().upper()[:17]
