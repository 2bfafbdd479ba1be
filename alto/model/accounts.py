"""Accounts and the keys that sign their requests. Every record of a tenant names its account; no call sees another's."""

from typing import ClassVar

import msgspec

from alto.model.records import Record


class Account(Record, frozen=True, kw_only=True):
    """`id` has 12 digits, as AWS's. Operators may use what is beneath all accounts: hosts, accounts, audit."""

    KIND: ClassVar[str] = "account"
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("name",),)

    name: str
    operator: bool = False
    created_at: float


class AccessKey(Record, frozen=True, kw_only=True):
    """`id` is the access key id ("AKIA..."); HMAC needs the secret itself, so it is kept readable."""

    KIND: ClassVar[str] = "access_key"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (("account",),)

    account: str
    secret: str
    created_at: float


class ClientToken(Record, frozen=True, kw_only=True):
    """What a request with this token answered. `id` is "account/region/operation/token".

    Written in the transaction that makes the resource, kept for `expires_at`, so that a retry makes nothing twice.
    """

    KIND: ClassVar[str] = "client_token"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = ()

    digest: str  # of the other parameters: the same token with others is IdempotentParameterMismatch
    result_id: str  # the id of what was made; of instances, all of them with a space between
    expires_at: float


class MetadataDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """In EC2's words what new instances have where their launch says nothing; None: EC2's own default."""

    http_tokens: str | None = None
    hop_limit: int | None = None
    http_endpoint: str | None = None
    tags: str | None = None


# What an account lets be public of its images and snapshots, in EC2's words.
UNBLOCKED, NEW_SHARING, ALL_SHARING = "unblocked", "block-new-sharing", "block-all-sharing"


class AccountRegion(Record, frozen=True, kw_only=True):
    """That an account has begun in a region, and so was given what each begins with. `id` is "account/region".

    It stays when the default VPC is deleted: what somebody threw away does not come back by itself.
    """

    KIND: ClassVar[str] = "account_region"

    dhcp_options_id: str  # the set that new VPCs have
    serial_console: bool = False  # live consoles of its instances may be opened; api/ec2/serial_console.py writes
    metadata: MetadataDefaults = MetadataDefaults()  # api/ec2/instance_metadata_defaults.py writes
    # Whether its images and snapshots may be made public; api/ec2/public_access.py writes, in EC2's words.
    images_blocked: bool = False
    snapshots_blocked: str = UNBLOCKED
    # New volumes are encrypted whatever is asked, and by which key if none is named (None: the account's "aws/ebs");
    # api/ec2/encryption.py writes.
    volumes_encrypted: bool = False
    volume_key: str | None = None
