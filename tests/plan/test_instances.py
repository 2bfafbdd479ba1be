"""An instance's life. Goal: phases only grow within an incarnation whatever reports come in whatever order; what the agent
does next leads to the wish from every state. Method: hypothesis over reports and states; EC2's state names from its API."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alto.model.instances import Checks, Instance, Nic, Phase, Power, Report, RootVolume, Seen, StateReason, Wish
from alto.plan.instances import Action, accept, holds_capacity, machine_of, next_action, report_of, state_name


def instance(**more: object) -> Instance:
    made = Instance(
        id="i-1",
        account="1",
        region="r",
        reservation_id="r-1",
        launch_index=0,
        launched_at=0.0,
        created_at=0.0,
        image_id="ami-1",
        image_source="tiny",
        instance_type="m1.tiny",
        vcpus=1,
        memory_mib=128,
        zone="ra",
        nics=(
            Nic(
                interface_id="eni-1",
                attachment_id="a-1",
                subnet_id="subnet-1",
                vpc_id="vpc-1",
                mac="02:00:00:00:00:01",
                private_ip="10.0.0.4",
                public_ip=None,
                group_ids=(),
            ),
        ),
        root=RootVolume(volume_id="vol-1", size_gib=1),
        hostname="ip-10-0-0-4.ec2.internal",
        host_id="h-1",
        epoch=1,
        phase=Phase.PLACED,
    )
    return replace(made, **more)


reports = st.builds(
    Report,
    instance_id=st.just("i-1"),
    epoch=st.integers(0, 2),
    incarnation=st.integers(0, 3),
    phase=st.sampled_from(Phase),
    reason=st.none() | st.just(StateReason(code="c", message="m")),
    guest_initiated=st.booleans(),
    guest_reached=st.booleans(),
    at=st.floats(1, 100),
)


@given(st.sampled_from(Wish), st.sampled_from(["stop", "terminate"]), st.lists(reports, max_size=12))
def test_phases_only_grow_whatever_comes_in_whatever_order(wish: Wish, behaviour: str, heard: list[Report]) -> None:
    now = instance(wish=wish, incarnation=2, shutdown_behaviour=behaviour)
    for report in heard:
        after = accept(now, report)
        if after is None:
            continue
        assert report.epoch == now.epoch
        assert after.incarnation == now.incarnation == report.incarnation
        assert after.phase >= now.phase
        assert after != now
        if after.phase is Phase.TERMINATED:
            assert now.wish is Wish.TERMINATED, "a host never decides that an instance is gone"
        now = after


@given(reports)
def test_the_same_report_twice_is_no_news(report: Report) -> None:
    once = accept(instance(wish=Wish.TERMINATED, incarnation=2), report)
    if once is not None:
        assert accept(once, report) is None


def test_a_guest_that_powers_off_stops_or_terminates_as_asked() -> None:
    running = instance(phase=Phase.RUNNING)
    machine = machine_of(running)
    off = Seen(power=Power.OFF, incarnation=1, guest_initiated=True)
    report = report_of(machine, off, at=5.0)
    stopped = accept(running, report)
    assert stopped is not None
    assert (stopped.wish, state_name(stopped)) == (Wish.STOPPED, "stopped")
    assert stopped.reason is not None
    assert stopped.reason.code == "Client.InstanceInitiatedShutdown"
    ended = accept(replace(running, shutdown_behaviour="terminate"), report)
    assert ended is not None
    assert state_name(ended) == "shutting-down"
    crashed = accept(running, report_of(machine, replace(off, guest_initiated=False, crashed=True), at=5.0))
    assert crashed is not None
    assert crashed.reason is not None
    assert crashed.reason.code == "Server.InternalError"


seen_states = st.none() | st.builds(
    Seen, power=st.sampled_from(Power), incarnation=st.integers(1, 3), guest_initiated=st.booleans(), crashed=st.booleans()
)


@given(st.sampled_from(Wish), seen_states)
def test_the_steps_of_an_agent_end_and_end_well(wish: Wish, seen: Seen | None) -> None:
    machine = machine_of(instance(wish=wish, incarnation=3))
    began = seen
    for _ in range(4):
        match next_action(machine, seen):
            case Action.START:
                assert seen is None or (seen.power is Power.OFF and seen.incarnation < 3), (
                    "no start over a life or an ended one"
                )
                seen = Seen(power=Power.ON, incarnation=3)
            case Action.STOP:
                assert seen is not None
                seen = replace(seen, power=Power.OFF)
            case Action.DESTROY:
                seen = None
            case Action.REPORT | Action.NOTHING:
                break
    else:
        raise AssertionError("it never came to rest")
    phase = report_of(machine, seen, at=1.0).phase
    if wish is Wish.TERMINATED:
        assert (phase, seen) == (Phase.TERMINATED, None)
    elif wish is Wish.STOPPED:
        assert phase is Phase.STOPPED
        assert seen is None or seen.power is Power.OFF
    else:
        ended = began is not None and began.power is Power.OFF and began.incarnation == 3
        assert phase is (Phase.STOPPED if ended else Phase.RUNNING)


def test_states_have_ec2s_names_and_never_pass_through_what_waiters_fail_on() -> None:
    names = [state_name(instance(phase=phase)) for phase in (Phase.PENDING, Phase.PLACED, Phase.PREPARING, Phase.RUNNING)]
    assert names == ["pending", "pending", "pending", "running"]
    names = [state_name(instance(phase=phase, wish=Wish.STOPPED)) for phase in (Phase.RUNNING, Phase.STOPPED)]
    assert names == ["stopping", "stopped"]
    down = (Phase.PLACED, Phase.RUNNING, Phase.STOPPED, Phase.TERMINATED)
    names = [state_name(instance(phase=phase, wish=Wish.TERMINATED)) for phase in down]
    assert names == ["shutting-down", "shutting-down", "shutting-down", "terminated"]


def test_room_is_held_from_placement_until_the_machine_is_off() -> None:
    held = [phase for phase in Phase if holds_capacity(instance(phase=phase))]
    assert held == [Phase.PLACED, Phase.PREPARING, Phase.RUNNING]
    assert not holds_capacity(instance(phase=Phase.PENDING, host_id=None))


RUNS = Report(instance_id="i-1", epoch=1, incarnation=1, phase=Phase.RUNNING, at=10.0)


def checked(*, guest: float | None = None) -> Report:
    return replace(RUNS, checks=Checks(guest_failed_since=guest))


def test_checks_are_news_when_they_say_something_else_than_what_is_known() -> None:
    running = instance(phase=Phase.RUNNING)
    assert accept(running, checked()) is None, "nothing failed, and nothing was known to fail"
    failed = accept(running, checked(guest=28.0))
    assert failed is not None
    assert failed.checks == Checks(guest_failed_since=28.0)
    assert accept(failed, checked(guest=28.0)) is None, "said twice"
    assert accept(failed, checked(guest=20.0)) is None, "by an agent that began anew: it has failed since it was first said"
    assert accept(failed, RUNS) is None, "nothing is said of them"
    healed = accept(failed, checked())
    assert healed is not None
    assert healed.checks == Checks()


def test_checks_are_of_one_incarnation() -> None:
    before = instance(phase=Phase.PLACED, incarnation=2, checks=Checks(guest_failed_since=1.0))
    after = accept(before, replace(RUNS, incarnation=2))
    assert after is not None
    assert after.checks is None
    assert accept(instance(phase=Phase.RUNNING, incarnation=2), checked(guest=1.0)) is None
    assert report_of(machine_of(before), None, at=1.0, checks=Checks()).checks is None, "it does not run"
