"""How instances are called within their VPC: the options of a launch and of a subnet, and ModifyPrivateDnsNameOptions.

What DNS then answers is decided in `plan/addresses.py`. Invariant: an instance's host name is what its options say, and changes
only while it is stopped: a guest asks for its name when it boots.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.call import Call, Operation
from alto.api.ec2.ids import owned
from alto.api.ec2.instances import not_stopped
from alto.api.ec2.launch_options import PrivateDnsNameOptions, chosen_naming
from alto.model.errors import Refused
from alto.model.instances import Instance
from alto.plan.addresses import own_hostname
from alto.plan.instances import state_name
from alto.store.store import Tx


class ModifyRequest(msgspec.Struct, frozen=True, rename="pascal"):
    instance_id: str
    private_dns_hostname_type: str | None = None
    enable_resource_name_dns_a_record: bool | None = msgspec.field(name="EnableResourceNameDnsARecord", default=None)
    enable_resource_name_dns_aaaa_record: bool | None = msgspec.field(name="EnableResourceNameDnsAAAARecord", default=None)


async def modify_private_dns_name_options(call: Call, request: ModifyRequest) -> dict[str, object]:
    wanted = PrivateDnsNameOptions(
        hostname_type=request.private_dns_hostname_type,
        enable_resource_name_dns_a_record=request.enable_resource_name_dns_a_record,
        enable_resource_name_dns_aaaa_record=request.enable_resource_name_dns_aaaa_record,
    )
    if wanted == PrivateDnsNameOptions():
        raise Refused("MissingParameter", "The request must contain an option of the private DNS name to change")

    def body(tx: Tx) -> None:
        instance = owned(tx, call, Instance, request.instance_id)
        state = state_name(instance)
        if state in ("shutting-down", "terminated"):
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is {state}.")
        naming = chosen_naming(wanted, instance.naming)
        name = own_hostname(instance.id, instance.nic.private_ip, instance.region, naming)
        if name != instance.hostname and state != "stopped":
            raise not_stopped(instance)
        tx.put(replace(instance, naming=naming, hostname=name))

    await call.store.write(body)
    return {"Return": True}


OPERATIONS: Mapping[str, Operation] = {
    "ModifyPrivateDnsNameOptions": Operation(ModifyRequest, modify_private_dns_name_options),
}
