"""20,000 requests generated from Amazon's models, against the whole control plane with simulated hosts in this process.

No answer is a 500, none takes longer than `HANG_S`, each is a well-formed answer or error of EC2 or STS; and the sweep is
not in vain: it sees successes and many different refusals. What is wrong is told with the request and its seed. By hand:
`python -m tests.wire.test_sweep COUNT SEED`.
"""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alto.api.accounts import create_account, draw_account
from alto.api.call import Settings
from alto.api.ec2.operations import OPERATIONS as EC2
from alto.api.sts.operations import OPERATIONS as STS
from alto.api.wire.models import Models
from alto.daemons.hosts import simulated_agents
from alto.daemons.server import TINY_IMAGE_ID, Server, first_start
from alto.kit.world import real_world
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.wire.sweep import Sweep

pytestmark = pytest.mark.long

REQUESTS = 20_000
SEED = 1
HANG_S = 5.0


async def sweep(models: Models, count: int, seed: int) -> Sweep:
    world = real_world()
    store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
    settings = Settings(cloud_id="c-sweep", regions=("us-east-1", "eu-west-1"), simulated=True)
    await first_start(world, store, settings)
    # Not the operator's account: it owns Alto's image and would soon deregister it.
    drawn = draw_account(world.chance)
    _, key = await store.write(lambda tx: create_account(tx, drawn, "sweep", world.clock.now()))
    server = Server(world, store, settings, models)
    agents = simulated_agents(world, server.sessions, 1, cloud_id="c-sweep")
    running = [asyncio.ensure_future(one.run()) for one in (server, *agents)]
    try:
        requests = Sweep(
            seed,
            {"ec2": EC2, "sts": STS},
            access_key_id=key.id,
            secret=key.secret,
            host="alto.test",
        )
        requests.learn([TINY_IMAGE_ID])
        for number in range(count):
            what, request = requests.request(datetime.fromtimestamp(world.clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ"))
            begun = time.monotonic()
            try:
                async with asyncio.timeout(HANG_S):
                    answer = await server.gateway.handle(request)
                requests.check(answer)
            except Exception as error:
                raise AssertionError(f"request {number} of seed {seed}: {error}\n{what[:3000]}") from error
            assert time.monotonic() - begun < HANG_S, f"request {number} of seed {seed} held the loop\n{what[:3000]}"
            for task in running:
                assert not task.done(), f"after request {number} of seed {seed}: {task}\n{what[:3000]}"
        return requests
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await store.close()


@pytest.mark.timeout(600)
def test_no_request_is_answered_by_a_bug(models: Models) -> None:
    answers = asyncio.run(sweep(models, REQUESTS, SEED)).answers
    assert answers.total() == REQUESTS
    assert answers[""] > REQUESTS / 50, answers
    # Past the parser, in the operations' own words.
    assert len(answers) > 18, answers
    for code in ("UnknownParameter", "MissingParameter", "InvalidParameterValue", "UnsupportedOperation"):
        assert answers[code] > 20, answers
    assert answers["DryRunOperation"] > 5, answers  # said only of what would have succeeded


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        result = asyncio.run(sweep(Models(real_world().files, Path(folder)), int(sys.argv[1]), int(sys.argv[2])))
        print(result.answers.most_common())
        print(f"{time.process_time() - began:.1f} s of CPU")
