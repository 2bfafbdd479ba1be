"""What becomes of one instance: what a host's agent does next, which reports are news, and what people are told.

Same input, same answer. Phases only grow within an incarnation; every rule here keeps that.
"""

import enum

from msgspec.structs import replace

from alto.model.instances import Attach, Checks, Instance, Machine, Nic, Phase, Power, Report, Seen, StateReason, Wish


class Action(enum.StrEnum):
    NOTHING = "nothing"
    START = "start"
    STOP = "stop"
    DESTROY = "destroy"
    REPORT = "report"  # nothing to do but to say what is


USER_STOPPED = StateReason(code="Client.UserInitiatedShutdown", message="Client.UserInitiatedShutdown: User initiated shutdown")
GUEST_STOPPED = StateReason(
    code="Client.InstanceInitiatedShutdown", message="Client.InstanceInitiatedShutdown: Instance initiated shutdown"
)
CRASHED = StateReason(
    code="Server.InternalError", message="Server.InternalError: The machine's process ended without anybody asking"
)


def next_action(machine: Machine, seen: Seen | None) -> Action:
    """The one next step of a host's agent towards `machine.wish`, from what its driver finds (None: nothing at all)."""
    if machine.wish is Wish.TERMINATED:
        return Action.DESTROY if seen is not None else Action.REPORT
    if machine.wish is Wish.STOPPED:
        return Action.STOP if seen is not None and seen.power is Power.ON else Action.REPORT
    if seen is None:
        return Action.START
    if seen.incarnation < machine.incarnation:
        # Stopped and started again before we heard of the stop: the old process goes first.
        return Action.STOP if seen.power is Power.ON else Action.START
    # An incarnation that ended is over: only the next one starts again (the wish of a user, or of a group).
    return Action.REPORT


def report_of(
    machine: Machine, seen: Seen | None, *, at: float, guest_reached: bool = False, checks: Checks | None = None
) -> Report:
    """What to say once `next_action` has nothing more to do, and the machine's interfaces are as it says."""
    phase, reason, guest = Phase.RUNNING, None, False
    if machine.wish is Wish.TERMINATED:
        phase = Phase.TERMINATED
    elif machine.wish is Wish.STOPPED or seen is None:
        phase, reason = Phase.STOPPED, USER_STOPPED
    elif seen.power is Power.OFF:
        phase, guest = Phase.STOPPED, seen.guest_initiated
        reason = GUEST_STOPPED if guest else CRASHED
    moving = [nic for nic in machine.nics if nic.attach is not Attach.ATTACHED]
    return Report(
        instance_id=machine.id,
        epoch=machine.epoch,
        incarnation=machine.incarnation,
        phase=phase,
        reason=reason,
        guest_initiated=guest,
        guest_reached=guest_reached and phase is Phase.RUNNING,
        checks=checks if phase is Phase.RUNNING else None,
        attached=tuple([nic.attachment_id for nic in moving if nic.attach is Attach.ATTACHING]) if moving else (),
        detached=tuple([nic.attachment_id for nic in moving if nic.attach is Attach.DETACHING]) if moving else (),
        wired=machine.wiring,
        at=at,
    )


def accept(instance: Instance, report: Report) -> Instance | None:
    """The instance after `report`, or None when it is no news (old, doubled, or from a host that no longer has it)."""
    if report.epoch != instance.epoch:
        return None
    news = _moved(instance, report)
    # A host that made a wiring true keeps it so, whatever it says late.
    return replace(news or instance, wired=report.wired) if report.wired > instance.wired else news


def _moved(instance: Instance, report: Report) -> Instance | None:
    if (report.incarnation, report.phase) <= (instance.incarnation, instance.phase):
        if report.phase is not Phase.RUNNING or (report.incarnation, report.phase) != (instance.incarnation, instance.phase):
            return None
        reached = report.at if report.guest_reached and instance.guest_reached_at is None else instance.guest_reached_at
        nics, checks = with_attachments(instance.nics, report), _checked(instance.checks, report.checks)
        if reached == instance.guest_reached_at and nics is instance.nics and checks is instance.checks:
            return None
        return replace(instance, guest_reached_at=reached, nics=nics, checks=checks)
    if report.incarnation > instance.incarnation:
        return None  # nobody started that one: a report from the future is a fault, not news
    if report.phase is Phase.TERMINATED:
        if instance.wish is not Wish.TERMINATED:
            return None  # a host does not decide that
        return replace(instance, phase=Phase.TERMINATED, ended_at=report.at)
    if report.phase is Phase.STOPPED:
        wish = instance.wish
        if wish is Wish.RUNNING:
            terminate = report.guest_initiated and instance.shutdown_behaviour == "terminate"
            wish = Wish.TERMINATED if terminate else Wish.STOPPED
        reason = instance.reason if instance.wish is Wish.STOPPED and instance.reason else report.reason
        # Nothing is plugged any more: what was to come comes with the next start, what was to go is gone.
        nics = settled(instance.nics)
        return replace(instance, phase=Phase.STOPPED, wish=wish, reason=reason, ended_at=report.at, nics=nics)
    return replace(
        instance,
        phase=report.phase,
        reason=report.reason,
        guest_reached_at=report.at if report.guest_reached else None,
        nics=with_attachments(instance.nics, report),
        checks=_checked(None, report.checks),
    )


def _checked(before: Checks | None, said: Checks | None) -> Checks | None:
    """What is so now; `before` itself when it is no news. That all is well is news only after something was not, and what has
    failed since it was first said keeps that time."""
    if said is None:
        return before
    was = before or Checks()
    now = Checks(
        machine_failed_since=_since(was.machine_failed_since, said.machine_failed_since),
        guest_failed_since=_since(was.guest_failed_since, said.guest_failed_since),
    )
    return before if now == was else now


def _since(before: float | None, said: float | None) -> float | None:
    return before if before is not None and said is not None else said


def with_attachments(nics: tuple[Nic, ...], report: Report) -> tuple[Nic, ...]:
    """`nics` after what a host said of them; the same object when it is no news. An attachment's id is used once, so that
    late words do no harm: what was detached never comes back under it."""
    if not report.attached and not report.detached:
        return nics
    kept = []
    for nic in nics:
        if nic.attach is Attach.DETACHING and nic.attachment_id in report.detached:
            continue
        arrived = nic.attach is Attach.ATTACHING and nic.attachment_id in report.attached
        kept.append(replace(nic, attach=Attach.ATTACHED) if arrived else nic)
    return nics if tuple(kept) == nics else tuple(kept)


def settled(nics: tuple[Nic, ...]) -> tuple[Nic, ...]:
    """`nics` of a machine that is off."""
    if all(nic.attach is Attach.ATTACHED for nic in nics):
        return nics
    return tuple(replace(nic, attach=Attach.ATTACHED) for nic in nics if nic.attach is not Attach.DETACHING)


def holds_capacity(instance: Instance) -> bool:
    """Whether its processors and memory are given out on its host: from placement until it is stopped."""
    return instance.host_id is not None and Phase.PLACED <= instance.phase < Phase.STOPPED


# EC2's names and codes (API reference, InstanceState). Waiters fail on shutting-down or stopping where they expect to
# see pending: never pass through those on the way up.
STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}


def state_name(instance: Instance) -> str:
    if instance.phase is Phase.TERMINATED:
        return "terminated"
    if instance.wish is Wish.TERMINATED:
        return "shutting-down"
    if instance.phase is Phase.STOPPED:
        return "stopped"
    if instance.wish is Wish.STOPPED:
        return "stopping"
    return "running" if instance.phase is Phase.RUNNING else "pending"


def machine_of(instance: Instance) -> Machine:
    """What its host must know of an instance."""
    return Machine(
        id=instance.id,
        account=instance.account,
        region=instance.region,
        zone=instance.zone,
        epoch=instance.epoch,
        incarnation=instance.incarnation,
        wish=instance.wish,
        image_id=instance.image_id,
        image_source=instance.image_source,
        instance_type=instance.instance_type,
        vcpus=instance.vcpus,
        threads_per_core=instance.threads_per_core,
        memory_mib=instance.memory_mib,
        root=instance.root,
        volumes=tuple([one for one in instance.volumes if not one.detaching]) if instance.volumes else (),
        wiring=instance.wiring,
        nics=instance.nics,
        hostname=instance.hostname,
        naming=instance.naming,
        public_key=instance.public_key,
        key_name=instance.key_name,
        user_data=instance.user_data,
        metadata=instance.metadata,
        shutdown_behaviour=instance.shutdown_behaviour,
        reservation_id=instance.reservation_id,
        launch_index=instance.launch_index,
        launched_at=instance.launched_at,
        reboots=instance.reboots,
        skip_os_shutdown=instance.skip_os_shutdown,
        profile=instance.profile,
        group_name=instance.group_name,
        tags=instance.tags,
    )
