"""`kill -9` at each step of a change of the master key, for real. Goal: whatever the server was about to do, `alto doctor` says
which file opens it, it starts again with the one that is there, and so does an instance whose disk was encrypted before all.
Method: a server that counts what it does to the world (dying.py), one death a step, until it lives through all of them."""

from pathlib import Path

from tests.e2e.cloud import Cloud, until
from tests.e2e.dying import Order

STEPS_MAX = 40


def test_a_killed_change_leaves_a_cloud_that_opens(own_network: None, tmp_path: Path) -> None:
    state = tmp_path / "state"
    program = ("tests.e2e.dying", "alto.daemons.allinone")
    cloud = Cloud(state, port=8775, pool="127.66.0.0/16", simulate=1, program=program)
    order = Order(state)
    master, following, ring = state / "master.key", state / "master.key.next", state / "vault.json"
    deaths: list[str] = []

    def runs() -> bool:
        (found,) = cloud.client().describe_instances()["Reservations"][0]["Instances"]
        if found["State"]["Name"] == "stopped":  # what is simulated goes with its server
            cloud.client().start_instances(InstanceIds=[found["InstanceId"]])
        return bool(found["State"]["Name"] == "running")

    try:
        cloud.up()
        cloud.client().enable_ebs_encryption_by_default()
        image = cloud.client().describe_images()["Images"][0]["ImageId"]
        cloud.client().run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t2.nano")
        until(runs, "the instance runs", timeout_s=60)
        for step in range(1, STEPS_MAX):
            was, ring_was = master.read_bytes(), ring.read_bytes()
            order.give(step)
            done = cloud.alto("master-key", "rotate")
            about = order.take_back()
            if about is None:
                assert done.returncode == 0, done.stderr
                assert done.stdout.splitlines()[-1] == str(master)
                assert master.read_bytes() != was
                break
            assert done.returncode == 7
            deaths.append(about)
            until(lambda: not cloud.alive, "it is dead", timeout_s=10)
            said = next(line for line in cloud.alto("doctor").stdout.splitlines() if line.startswith("master key"))
            opens = master if ring.read_bytes() == ring_was else following
            assert f"{opens} opens this cloud" in said, said
            cloud.up()
            assert not following.exists()
            until(runs, "the instance runs", timeout_s=60)
        for step_of_it in (f"write {following}", f"write {ring}", f"write {master}", f"remove {following}"):
            assert step_of_it in deaths
        assert cloud.alto("audit").returncode == 0
    finally:
        cloud.down()
