"""Groups and their balancers. Goal: a group comes to its desired number, replaces what died, and lets leaving members drain
before they go; a balancer's members are those that run. Method: a tiny world that does what each step says, until rest."""

from msgspec.structs import replace

from alto.model.balancers import AutoScalingGroup, LaunchSpec, Leaving, LoadBalancer, TargetHealth, TargetState
from alto.model.instances import Instance, Phase, Wish
from alto.plan.balancing import front_of, merge_health, targets
from alto.plan.groups import UNHEALTHY_S, next_step
from tests.plan.test_instances import instance

BALANCER = LoadBalancer(
    id="lb-1", account="1", region="r", name="web", address="127.64.0.4", created_at=0.0, drain_s=10.0, ready=True
)
GROUP = AutoScalingGroup(
    id="asg-1",
    account="1",
    region="r",
    name="web",
    desired=2,
    launch=LaunchSpec(image_id="ami-1", instance_type="m1.tiny"),
    load_balancer_id="lb-1",
    created_at=0.0,
)


def member(number: int, **more: object) -> Instance:
    return instance(id=f"i-{number}", created_at=float(number), phase=Phase.RUNNING, group_name="web", **more)


def balancer(**states: TargetState) -> LoadBalancer:
    health = [TargetHealth(instance_id=f"i-{id[1:]}", state=state) for id, state in sorted(states.items())]
    return replace(BALANCER, health=tuple(health))


def test_an_empty_group_launches_what_it_lacks_and_a_full_one_rests() -> None:
    assert next_step(GROUP, [], BALANCER, 0.0).launch == 2
    assert next_step(GROUP, [member(1)], BALANCER, 0.0).launch == 1
    rest = next_step(GROUP, [member(1), member(2)], balancer(m1=TargetState.HEALTHY, m2=TargetState.HEALTHY), 0.0)
    assert (rest.launch, rest.leaving, rest.terminate) == (0, (), ())


def test_a_member_that_ended_is_replaced_at_once() -> None:
    dead = member(1, wish=Wish.STOPPED)
    step = next_step(GROUP, [replace(dead, phase=Phase.STOPPED), member(2)], BALANCER, 0.0)
    assert (step.launch, step.terminate) == (1, ("i-1",))


def test_the_newest_leave_and_drain_before_they_are_terminated() -> None:
    members = [member(n) for n in range(1, 5)]
    healthy = balancer(m1=TargetState.HEALTHY, m2=TargetState.HEALTHY, m3=TargetState.HEALTHY, m4=TargetState.HEALTHY)
    step = next_step(GROUP, members, healthy, 100.0)
    assert [one.instance_id for one in step.leaving] == ["i-3", "i-4"]
    assert step.terminate == ()
    draining = replace(GROUP, leaving=step.leaving)
    behind = {
        target.instance_id
        for target in targets(replace(healthy, targets=targets(healthy, None, members)), draining, members)
        if target.draining
    }
    assert behind == {"i-3", "i-4"}
    assert next_step(draining, members, healthy, 105.0).terminate == ()
    assert next_step(draining, members, healthy, 110.0).terminate == ("i-3", "i-4")
    # Who is not behind the balancer (any more) has nothing to drain.
    gone = balancer(m1=TargetState.HEALTHY, m2=TargetState.HEALTHY, m4=TargetState.DRAINING)
    assert next_step(draining, members, gone, 105.0).terminate == ("i-3",)


def test_a_member_that_stopped_answering_has_its_time_and_one_that_never_did_the_groups_grace() -> None:
    members = [member(1, launched_at=0.0), member(2, launched_at=0.0)]
    health = (
        TargetHealth(instance_id="i-1", state=TargetState.UNHEALTHY, since=1000.0),
        TargetHealth(instance_id="i-2", state=TargetState.HEALTHY, since=10.0),
    )
    sick = replace(BALANCER, health=health)
    assert next_step(GROUP, members, sick, 1000.0 + UNHEALTHY_S).leaving == ()
    step = next_step(GROUP, members, sick, 1001.0 + UNHEALTHY_S)
    assert [one.instance_id for one in step.leaving] == ["i-1"]
    assert step.launch == 1
    young = [member(1, launched_at=0.0), member(2, launched_at=0.0)]
    initial = balancer(m1=TargetState.INITIAL, m2=TargetState.HEALTHY)
    assert next_step(GROUP, young, initial, GROUP.grace_s - 1).leaving == ()
    assert [one.instance_id for one in next_step(GROUP, young, initial, GROUP.grace_s + 1).leaving] == ["i-1"]


def test_a_balancer_that_has_just_begun_gives_old_members_their_time() -> None:
    members = [member(1, launched_at=0.0), member(2, launched_at=0.0)]
    began = 10 * GROUP.grace_s
    health = [TargetHealth(instance_id=one.id, state=TargetState.INITIAL, since=began) for one in members]
    new = replace(BALANCER, health=tuple(health))
    assert next_step(GROUP, members, new, began + 1.0).leaving == ()
    assert next_step(GROUP, members, new, began + GROUP.grace_s).leaving == ()
    silent = next_step(GROUP, members, new, began + GROUP.grace_s + 1.0)
    assert [one.instance_id for one in silent.leaving] == ["i-1", "i-2"]


def test_nothing_is_judged_while_the_balancer_itself_is_not_there() -> None:
    silent = replace(balancer(m1=TargetState.UNHEALTHY, m2=TargetState.UNHEALTHY), ready=False)
    step = next_step(GROUP, [member(1, launched_at=0.0), member(2, launched_at=0.0)], silent, 10_000.0)
    assert (step.launch, step.leaving, step.terminate) == (0, (), ())


def test_a_group_that_is_deleted_lets_all_go() -> None:
    step = next_step(replace(GROUP, deleting=True), [member(1), member(2)], None, 0.0)
    assert (step.launch, step.terminate) == (0, ("i-1", "i-2"))


def test_only_members_that_run_are_behind_the_balancer() -> None:
    members = [member(1), replace(member(2), phase=Phase.PLACED), replace(member(3), phase=Phase.STOPPED)]
    assert [target.instance_id for target in targets(BALANCER, GROUP, members)] == ["i-1"]
    known = replace(BALANCER, targets=targets(BALANCER, GROUP, [member(1), member(2)]))
    ending = [member(1), member(2, wish=Wish.TERMINATED), member(4, wish=Wish.TERMINATED)]
    shown = {target.instance_id: target.draining for target in targets(known, GROUP, ending)}
    assert shown == {"i-1": False, "i-2": True}


def test_a_balancer_s_instance_is_the_oldest_that_is_to_stay() -> None:
    """Whoever asks, for its address or for a person, is told of the same one."""
    gone, leaves = member(1), member(2, wish=Wish.TERMINATED)
    stays, new = replace(member(3), phase=Phase.PENDING), member(4)
    assert front_of([new, stays, leaves, replace(gone, phase=Phase.TERMINATED)]) == stays
    assert front_of([leaves]) is None


def test_health_keeps_the_time_since_when_it_is_so() -> None:
    old = (TargetHealth(instance_id="i-1", state=TargetState.HEALTHY, since=5.0),)
    new = (
        TargetHealth(instance_id="i-2", state=TargetState.INITIAL),
        TargetHealth(instance_id="i-1", state=TargetState.HEALTHY),
    )
    assert [(one.instance_id, one.since) for one in merge_health(old, new, 9.0)] == [("i-1", 5.0), ("i-2", 9.0)]
    sick = (TargetHealth(instance_id="i-1", state=TargetState.UNHEALTHY),)
    assert merge_health(old, sick, 9.0)[0].since == 9.0


def test_who_leaves_stays_so_until_its_termination_is_written() -> None:
    """A crash between deciding and terminating must not make it a member again, and another leave in its place."""
    leaving = replace(GROUP, desired=1, leaving=(Leaving(instance_id="i-1", since=10.0),))
    step = next_step(leaving, [member(1), member(2)], None, 100.0)
    assert step.terminate == ("i-1",)
    again = next_step(replace(leaving, leaving=step.leaving), [member(1), member(2)], None, 101.0)
    assert again.terminate == ("i-1",)
    gone = next_step(replace(leaving, leaving=again.leaving), [member(1, wish=Wish.TERMINATED), member(2)], None, 102.0)
    assert (gone.launch, gone.leaving, gone.terminate) == (0, (), ())


def test_a_clock_that_was_put_back_does_not_stop_the_draining() -> None:
    """Times are written down by whichever clock there was; one that ran an hour fast must not hold a member for an hour."""
    members = [member(1, launched_at=0.0), member(2, launched_at=0.0)]
    healthy = balancer(m1=TargetState.HEALTHY, m2=TargetState.DRAINING)
    left_at = 10_000.0
    draining = replace(GROUP, desired=1, leaving=(Leaving(instance_id="i-2", since=left_at),))
    assert next_step(draining, members, healthy, left_at - 3600.0).terminate == ("i-2",)
    assert next_step(draining, members, healthy, left_at - 1.0).terminate == ()
    assert next_step(draining, members, healthy, left_at + BALANCER.drain_s).terminate == ("i-2",)
