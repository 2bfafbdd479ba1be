"""Every kind of record that a store holds. A kind that is not here has no table; `tests/store` compares with the model."""

from alto.model.accounts import AccessKey, Account, AccountRegion, ClientToken
from alto.model.acls import NetworkAcl, PrefixList
from alto.model.addresses import Address
from alto.model.balancers import AutoScalingGroup, LoadBalancer
from alto.model.hosts import Host
from alto.model.images import FormerImage, Image, KeyPair
from alto.model.instances import Instance
from alto.model.joining import FormerHost, JoinToken
from alto.model.launch_templates import LaunchTemplate, LaunchTemplateVersion
from alto.model.networks import (
    AddressPool,
    NetworkInterface,
    PublicAddress,
    SecondaryAddress,
    SecurityGroup,
    SecurityGroupVpc,
    Subnet,
    Vpc,
)
from alto.model.placement_groups import PlacementGroup, PlacementMember
from alto.model.profiles import ProfileAssociation
from alto.model.records import Record
from alto.model.routing import (
    DhcpOptions,
    EgressOnlyInternetGateway,
    InternetGateway,
    NatGateway,
    RouteTable,
    VpcEndpoint,
    VpcPeering,
)
from alto.model.tags import AddedTags
from alto.model.volumes import Snapshot, StorageJob, Volume
from alto.store.leases import Lease

KINDS: tuple[type[Record], ...] = (
    AccessKey,
    Account,
    AccountRegion,
    AddedTags,
    Address,
    AddressPool,
    AutoScalingGroup,
    ClientToken,
    DhcpOptions,
    EgressOnlyInternetGateway,
    FormerHost,
    Host,
    Image,
    FormerImage,
    Instance,
    InternetGateway,
    JoinToken,
    KeyPair,
    LaunchTemplate,
    LaunchTemplateVersion,
    Lease,
    LoadBalancer,
    NatGateway,
    NetworkAcl,
    NetworkInterface,
    PrefixList,
    PlacementGroup,
    PlacementMember,
    ProfileAssociation,
    PublicAddress,
    RouteTable,
    SecondaryAddress,
    SecurityGroup,
    SecurityGroupVpc,
    Snapshot,
    StorageJob,
    Subnet,
    Volume,
    Vpc,
    VpcEndpoint,
    VpcPeering,
)
