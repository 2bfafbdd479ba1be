"""Address: an elastic public address, which stays its account's until it is released."""

from typing import ClassVar

from alto.model.records import Record, Tags

# Of one account in one region, so that none takes the whole pool. Amazon begins with 5, and raises it for whoever asks.
ADDRESSES_MAX = 100


class Address(Record, frozen=True, kw_only=True):
    """`id` is the allocation's, "eipalloc-...". The address itself is claimed by a PublicAddress whose owner this is.

    Invariant: `association_id`, `interface_id` and `private_ip` are all set or none is.
    """

    KIND: ClassVar[str] = "address"
    INDEXES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("account", "region"),
        ("interface_id",),
        ("association_id",),
    )
    UNIQUE: ClassVar[tuple[tuple[str, ...], ...]] = (("public_ip",), ("interface_id", "private_ip"))

    account: str
    region: str
    public_ip: str
    association_id: str | None = None  # "eipassoc-..."
    interface_id: str | None = None
    private_ip: str | None = None
    instance_id: str | None = None
    reverse_name: str | None = None  # DescribeAddressesAttribute's domain-name
    requester: str | None = None  # the service that it is for and goes with, "service web"
    tags: Tags = {}
