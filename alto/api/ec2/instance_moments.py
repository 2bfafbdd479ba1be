"""A moment's patience with instances, as moments.py has it for what hosts make: where the next step is asked for at once, it
finds them running, stopped or gone, mostly.

How long a moment is, is the cloud's setting: none at all where every step between is to be seen, as in the simulator. Answers
say what was so when the change was written ("stopping", "shutting-down"), though they may leave later. RunInstances waits for
nothing. Invariant: nobody waits for what is not about to happen: a launch that no host has room for, or one of long ago.
"""

from collections.abc import Iterable, Sequence

from alto.api.call import Call
from alto.api.ec2.ids import is_own
from alto.api.ec2.moments import moment_until
from alto.model.instances import Attach, Instance, Phase
from alto.model.networks import NetworkInterface
from alto.plan.instances import state_name
from alto.store.store import Reader

# With more than this on their way, a listing says what is so: it would look at all of them again and again.
MANY = 200
_BEFORE_RUNNING = (Phase.PENDING, Phase.PLACED, Phase.PREPARING)


async def until_begun(call: Call, ids: Sequence[str] = ()) -> None:
    """The instances named, or all of the caller's, run if they were launched or started just now."""
    patience_s = call.settings.patience_s
    if not patience_s:
        return
    since = call.world.clock.now() - patience_s

    def begun(reader: Reader) -> bool:
        found = _named(reader, ids) if ids else _on_their_way(reader)
        return not any(
            one.launched_at > since and one.waiting_because is None and state_name(one) == "pending" and is_own(call, one)
            for one in found
        )

    await moment_until(call, begun, moment_s=patience_s)


async def until_settled(call: Call, ids: Sequence[str]) -> None:
    """What was asked of the instances named has happened to them."""
    patience_s = call.settings.patience_s
    if patience_s:
        on_the_way = ("pending", "stopping", "shutting-down")
        await moment_until(
            call,
            lambda reader: not any(state_name(one) in on_the_way for one in _named(reader, ids)),
            moment_s=patience_s,
        )


async def until_attached(call: Call, instance_id: str, attachment_id: str) -> None:
    def attached(reader: Reader) -> bool:
        instance = reader.find(Instance, instance_id)
        nics = instance.nics if instance is not None else ()
        return not any(nic.attachment_id == attachment_id and nic.attach is Attach.ATTACHING for nic in nics)

    patience_s = call.settings.patience_s
    if patience_s:
        await moment_until(call, attached, moment_s=patience_s)


async def until_detached(call: Call, interface_id: str, attachment_id: str) -> None:
    def detached(reader: Reader) -> bool:
        interface = reader.find(NetworkInterface, interface_id)
        return interface is None or interface.attachment_id != attachment_id

    patience_s = call.settings.patience_s
    if patience_s:
        await moment_until(call, detached, moment_s=patience_s)


def _named(reader: Reader, ids: Sequence[str]) -> Iterable[Instance]:
    return (one for one in (reader.find(Instance, id) for id in ids) if one is not None)


def _on_their_way(reader: Reader) -> Iterable[Instance]:
    found: list[Instance] = []
    for phase in _BEFORE_RUNNING:
        rows = reader.where(Instance, phase=phase, limit=MANY)
        if len(rows) == MANY:
            return ()
        found += rows
    return found
