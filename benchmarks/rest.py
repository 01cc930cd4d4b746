"""Many callers waiting at once, on one process of the api, beside the first document's own way.

``make bench-rest``: CALLERS=2000 ask for copies of 20 s and wait. Printed for both: answered,
memory of the serving process, store reads a second for waiting, how long after its copy had
ended (by Vertex AI's clock) the answers came, and how long after the outcome was stored: what
lies between the two is the worker, which has two thousand copies to look after.

The other way has 40 threads and is given OTHER_SECONDS: at 20 s a copy, 2,000 callers would
take twenty minutes and more. FastAPI checks and writes the answer of a ``def`` endpoint in
the same threads, behind every call that still waits for one: with more callers than threads
nobody is answered before the queue is empty. So it is measured with OTHER_CALLERS too, which
it can manage.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from local_cloud.process import free_port
from local_cloud.stack import LOCATION, SOURCE_MODEL, SOURCE_PROJECT, TARGET_PROJECT, Stack

HERE = Path(__file__).parent
COPY_SECONDS = 20.0
OTHER_SECONDS = 90.0
OTHER_CALLERS = 80
PATIENCE_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    way: str
    callers: int
    answered: int
    failed: int
    megabytes: float
    reads_a_second: str
    most_waiting: str
    median_lag: float | None
    worst_lag: float | None
    worst_after_stored: str


# The callers, in a process of their own.


async def call(host: str, port: int, model: str) -> tuple[str, int, float, float | None]:
    """One caller: a connection, a POST, and then patience."""
    reader, writer = await asyncio.open_connection(host, port)
    path = f"/v1/models/copy?source_model_id={SOURCE_MODEL}&destination_model_id={model}"
    head = f"POST {path} HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    status = await reader.readline()
    answer = await reader.read()
    at = time.time()
    writer.close()
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    stored = told.get("timings", {}).get("ended_at")
    lag = at - datetime.fromisoformat(stored).timestamp() if stored else None
    return model, int(status.split()[1]), at, lag


async def call_all(port: int, count: int, seconds: float) -> None:
    calls = [asyncio.create_task(call("127.0.0.1", port, f"m-{n}")) for n in range(count)]
    await asyncio.wait(calls, timeout=seconds)
    for task in calls:
        task.cancel()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, tuple):
            print(json.dumps(result))


async def callers(
    port: int, count: int, seconds: float
) -> list[tuple[str, int, float, float | None]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(__file__, "--as-callers", str(port), "--callers", str(count), "--seconds", str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return [tuple(json.loads(line)) for line in out.splitlines()]


# What is measured.


async def largest(pid: int) -> float:
    """Watch a process and its children until cancelled; return nothing sooner."""
    most = 0.0
    try:
        while True:
            with suppress(psutil.Error):
                family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
                most = max(most, *(process.memory_info().rss for process in family))
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        return most / 2**20


async def measured(
    stack: Stack, way: str, *, port: int, pid: int, count: int, patience: float
) -> Row:
    stack.vertex.turn(copy_seconds=COPY_SECONDS)
    memory = asyncio.create_task(largest(pid))
    answers = await callers(port, count, patience)
    memory.cancel()
    ends = {op.destination.model: op.ends_at.timestamp() for op in stack.vertex.operations}
    good = [answer for answer in answers if answer[1] == 200]
    lags = [at - ends[model] for model, _, at, _ in good]
    known = [lag for *_, lag in good if lag is not None]
    return Row(
        way=way,
        callers=count,
        answered=len(good),
        failed=len(answers) - len(good),
        megabytes=await memory,
        reads_a_second="none",
        most_waiting="-",
        median_lag=statistics.median(lags) if lags else None,
        worst_lag=max(lags, default=None),
        worst_after_stored=f"{max(known):.1f} s" if known else "-",
    )


async def ours(folder: Path, count: int) -> Row:
    settings = {
        "STARTS_PER_MINUTE": "6000",
        "READS_PER_MINUTE": "60000",
        "WAIT_SECONDS": str(PATIENCE_SECONDS),
        # All callers are one account.
        "REQUESTS_PER_MINUTE": "100000",
        "MAX_WAITS": "10000",
    }
    async with Stack(folder=folder, with_api=True, tick_seconds=5, settings=settings) as stack:
        assert stack.api.running is not None
        row = await measured(
            stack,
            "the api",
            port=stack.api.port,
            pid=stack.api.running.pid,
            count=count,
            patience=PATIENCE_SECONDS,
        )
        log = await asyncio.to_thread(stack.api.log.read_text)
    watched = [json.loads(line) for line in log.splitlines() if '"watched"' in line]
    looks, seconds = (sum(line[name] for line in watched) for name in ("looks", "seconds"))
    most = max(line["most_waiting"] for line in watched)
    return replace(row, reads_a_second=f"{looks / seconds:.1f}", most_waiting=str(most))


async def theirs(folder: Path, count: int) -> Row:
    async with Stack(folder=folder) as stack:
        port = free_port()
        env: dict[str, Any] = {
            **os.environ,
            **stack.exports(),
            "SOURCE_PROJECT": SOURCE_PROJECT,
            "TARGET_PROJECT": TARGET_PROJECT,
            "LOCATION": LOCATION,
        }
        with (folder / "seed.log").open("wb") as log:
            server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "error"),
                *("--app-dir", str(HERE), "seed_api:app"),
                env=env, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                await _listens(port)
                way = "FastAPI, Model.copy"
                return await measured(
                    stack, way, port=port, pid=server.pid, count=count, patience=OTHER_SECONDS
                )
            finally:
                server.kill()
                await server.wait()


def _seconds(lag: float | None) -> str:
    return "-" if lag is None else f"{lag:.1f} s"


async def _listens(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)


async def main(count: int) -> None:
    print(f"Callers at once, copies of {COPY_SECONDS:g} s; lag from the copy's end to the answer.")
    columns = "way | callers | answered | refused | MB | store reads/s | waiting at once"
    print(f"| {columns} | median lag | worst lag | worst lag after stored |")
    print("|" + " --- |" * 10, flush=True)
    for run, callers_of_it in ((ours, count), (theirs, count), (theirs, OTHER_CALLERS)):
        with tempfile.TemporaryDirectory(prefix="bench-rest-") as folder:
            row = await run(Path(folder), callers_of_it)
        print(
            f"| {row.way} | {row.callers} | {row.answered} | {row.failed} | {row.megabytes:.0f}"
            f" | {row.reads_a_second} | {row.most_waiting} | {_seconds(row.median_lag)}"
            f" | {_seconds(row.worst_lag)} | {row.worst_after_stored} |",
            flush=True,
        )
    print(f"FastAPI was given {OTHER_SECONDS:g} s; whoever had no answer by then is not counted.")


if __name__ == "__main__":
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    parser = argparse.ArgumentParser()
    parser.add_argument("--callers", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=PATIENCE_SECONDS)
    parser.add_argument("--as-callers", type=int)
    asked = parser.parse_args()
    if asked.as_callers:
        asyncio.run(call_all(asked.as_callers, asked.callers, asked.seconds))
    else:
        asyncio.run(main(asked.callers))
