"""The demo's own instruments tell the truth, or its table of checks is worth nothing.

Goal: requests are counted once and in their second, failures are seen as failures, the plot shows them, and what is left
behind is found. Method: hand-counted requests; the real load generator against a real server that fails on demand.
"""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alto.ui.cli.demo import traffic
from alto.ui.cli.demo.checks import Checks
from alto.ui.cli.demo.machine import Traces, kill, processes

ROOT = Path(__file__).parents[2]
A, B = "i-0000000000000000a", "i-0000000000000000b"


def request(at: float, member: str | None = A, wrong: str | None = None, ms: float = 1.0) -> traffic.Request:
    return traffic.Request(at, ms, member, wrong)


def test_each_request_is_counted_once_and_in_its_second() -> None:
    requests = [request(100.0), request(100.9, B), request(101.0, None, "HTTP 503"), request(102.5, B)]
    steps = traffic.series(requests, 100.0, 103.0, 3)
    assert steps == [traffic.Step(2, 0, 2), traffic.Step(1, 1, 0), traffic.Step(1, 0, 1)]
    assert len(traffic.failures(requests)) == 1
    assert traffic.members(requests) == {A, B}
    assert traffic.between(requests, 100.9, 102.5) == requests[1:3]


def test_an_answer_is_torn_only_by_a_death_in_its_middle() -> None:
    before, torn, after = (traffic.Request(at, 3000.0, None, "10 of 36 bytes", cut=True) for at in (96.0, 99.9, 100.3))
    refused = request(99.9, None, "HTTP 503", ms=3000.0)
    assert traffic.torn([before, torn, refused, request(99.9, ms=3000.0), after], 100.0, 100.2) == [torn]


def test_percentiles_are_of_answers() -> None:
    requests = [request(i, ms=float(i)) for i in range(1, 101)] + [request(200, None, "no answer in time", ms=10000.0)]
    assert traffic.percentile(requests, 0.5) == 51.0
    assert traffic.percentile(requests, 0.99) == 100.0
    assert traffic.percentile([], 0.5) == 0.0


def test_the_plot_shows_failures_where_they_were() -> None:
    requests = [request(100 + i / 10) for i in range(100)] + [request(105.05, None, "HTTP 503")]
    lines = traffic.plot(sorted(requests), [traffic.Event(105.0, "kill")], width=10, unicode=False)
    failures = next(line for line in lines if "failures" in line)
    cells = failures.removeprefix("  failures ")[:10]
    assert cells == "     %    "
    assert "max 1" in failures
    assert any(line.strip() == "A 5 s kill" for line in lines)
    assert next(line for line in lines if line.strip().startswith("A  ")).index("A") == failures.index("%")


def test_a_half_written_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    whole = json.dumps(request(1.0)._asdict())
    path.write_text(whole + "\n" + whole[:20])
    assert traffic.read(path) == [request(1.0)]
    assert traffic.read(tmp_path / "absent") == []


class Flaky(http.server.BaseHTTPRequestHandler):
    broken = False
    stops_in_the_middle = False

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        body = f"<p>instance {A}</p>".encode()
        self.send_response(503 if self.broken else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:10] if self.stops_in_the_middle else body)


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()


def test_the_load_generator_tells_answers_from_failures(server: http.server.HTTPServer, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    url = f"http://127.0.0.1:{server.server_port}/"
    load = subprocess.Popen(
        [sys.executable, "-m", "alto.ui.cli.demo.load", url, "50", str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        wait(lambda: len(traffic.read(path)) > 20)
        assert {one.member for one in traffic.read(path)} == {A}
        Flaky.broken = True
        wait(lambda: any(one.wrong == "HTTP 503" for one in traffic.read(path)))
        Flaky.broken = False
        assert not any(one.cut for one in traffic.read(path))
        Flaky.stops_in_the_middle = True
        wait(lambda: any(one.cut and one.wrong == "10 of 35 bytes of an answer" for one in traffic.read(path)))
        Flaky.stops_in_the_middle = False
        server.shutdown()
        server.server_close()
        wait(lambda: any("refused" in (one.wrong or "") for one in traffic.read(path)))
    finally:
        Flaky.broken = Flaky.stops_in_the_middle = False
        load.kill()
        load.wait()
    requests = traffic.read(path)
    seconds = requests[-1].at - requests[0].at
    assert 40 * seconds <= len(requests) <= 60 * seconds + 2


def wait(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_left_is_found() -> None:
    nothing = frozenset[str]()
    now = Traces(frozenset({"alto-85ca00-vpc-1", "docker"}), nothing, frozenset({"table ip alto_85ca00"}), nothing, nothing)
    assert now.of("85ca00") == {"namespaces": ["alto-85ca00-vpc-1"], "tables": ["table ip alto_85ca00"]}
    assert now.of("123456") == {}


def test_only_the_process_that_was_meant_is_killed(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}"
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)", mark])
    try:
        wait(lambda: processes(mark))
        (found,) = processes(mark)
        assert found.pid == process.pid
        kill(found._replace(started=found.started + 1))
        assert process.poll() is None, "another process of the same number is left alone"
        kill(found)
        assert process.wait(timeout=10) == -9
        assert processes(mark) == []
    finally:
        process.kill()
        process.wait()


def test_one_false_claim_is_a_failure() -> None:
    told: list[str] = []
    checks = Checks(told.append)
    assert not checks.passed, "a story that checked nothing proved nothing"
    checks.check("two machines answer", True, "2")
    assert checks.passed
    checks.check("nothing is left", False, "files: alto.db")
    assert not checks.passed
    assert [line.split()[0] for line in checks.table()] == ["ok", "NOT"]
    assert "NOT SO: nothing is left (files: alto.db)" in told[-1]
