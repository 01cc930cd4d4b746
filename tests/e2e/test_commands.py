"""``python -m local_cloud`` as a person runs it."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil
import pytest

from local_cloud.process import free_port

MODEL = "projects/gemini-fine-tuning-target/locations/us-central1/models/target-model-260213"
# Vertex AI names projects by number.
MODEL_BY_NUMBER = MODEL.replace("gemini-fine-tuning-target", "123456789012")
BIN = Path(sys.executable).parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local_cloud", *arguments],
        env={**os.environ, "POLL_SECONDS": "0.2"},  # reaches the worker
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def _nothing_is_left_running():
    """Whatever a command started has ended with it; another checkout's runs are not ours."""
    ours = {str(BIN / name) for name in ("functions-framework", "model-copy")}
    before = {process.pid for process in psutil.process_iter()}
    yield
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "environ"])
        if process.pid not in before
        and not ours.isdisjoint(process.info["cmdline"] or ())
        and _is_of_this_worker(process.info["environ"] or {})
    ]
    assert left == []


def _is_of_this_worker(environ: Mapping[str, str]) -> bool:
    """Tests run side by side; what another worker of pytest started ends with its own test."""
    names = ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID")
    return all(environ.get(name) == os.environ.get(name) for name in names)


def test_the_demo_copies_a_model_and_reads_it_back():
    ended = run("demo", "--copy-seconds", "0.5")

    assert ended.returncode == 0, ended.stderr
    assert "$ model-copy publish 7704127342733426688 target-model-260213 --wait" in ended.stdout
    assert f"read back   {MODEL_BY_NUMBER}  version 1" in ended.stdout
    assert "overhead" in ended.stdout


def test_demo_copies_in_a_multi_region():
    """Tuned Gemini 3 models lie there; its host is another than a region's."""
    ended = run("demo", "--copy-seconds", "0.5", "--location", "us")

    assert ended.returncode == 0, ended.stderr
    assert f"read back   {MODEL_BY_NUMBER.replace('us-central1', 'us')}  version 1" in ended.stdout


def test_the_demo_of_a_failure_shows_reply_and_letter_and_exits_with_1():
    ended = run("demo", "--copy-seconds", "0.5", "--fault", "copy-fails")

    assert ended.returncode == 1
    assert "failed     PERMISSION_DENIED" in ended.stdout
    assert "letter      " in ended.stdout
    assert "reason      Vertex AI gave up the copy" in ended.stdout


def test_the_demo_of_a_lost_answer_still_makes_one_model():
    ended = run("demo", "--copy-seconds", "0.5", "--fault", "lost-answer")

    assert ended.returncode == 0, ended.stderr
    assert f"read back   {MODEL_BY_NUMBER}  version 1" in ended.stdout


@pytest.mark.parametrize("ends_by", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_until_told_to_stop(tmp_path: Path, ends_by: signal.Signals):
    ports = [
        part
        for option in ("pubsub", "pubsub-rest", "vertex", "vertex-rest", "worker", "api")
        for part in (f"--{option}-port", str(free_port()))
    ]
    up = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "local_cloud",
            "up",
            f"--folder={tmp_path}",
            "--vertex=seed=7",
            *ports,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert up.stdout is not None
    printed = []
    while (line := up.stdout.readline()) and not line.startswith("# Ctrl-C"):
        printed.append(line)
    exports = dict(
        shlex.split(line.removeprefix("export "))[0].split("=", 1)
        for line in (tmp_path / "env").read_text().splitlines()
    )
    published = subprocess.run(
        [BIN / "model-copy", "publish", "7704127342733426688", "up-model"],
        env={**os.environ, **exports},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    with urllib.request.urlopen(f"{exports['VERTEX_REST']}/control/knobs") as answer:
        knobs = json.load(answer)
    up.send_signal(ends_by)
    rest, _ = up.communicate(timeout=30)

    assert published.returncode == 0, published.stderr
    assert knobs["seed"] == 7
    assert up.returncode == 130
    assert "stopped" in rest
    assert {f"export {name}={shlex.quote(value)}\n" for name, value in exports.items()} <= set(
        printed
    )
    assert {"PUBSUB_EMULATOR_HOST", "WORKER_URL", "API_URL"} <= set(exports)


def test_serve_runs_pubsub_alone_with_the_faults_that_it_was_told():
    topic, worker = "projects/p-project/topics/requests", "projects/p-project/subscriptions/worker"
    arguments = ["--no-vertex", "--project=p-project", "--pubsub-port=0", "--pubsub-rest-port=0"]
    with subprocess.Popen(
        [sys.executable, "-m", "local_cloud", "serve", *arguments, f"--pubsub-next=delay={worker}"],
        stdout=subprocess.PIPE,
        text=True,
    ) as serve:
        assert serve.stdout is not None
        exports = {}
        while (line := serve.stdout.readline()) and not line.startswith("# Ctrl-C"):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exports[name] = value
        with httpx.Client(base_url=exports["PUBSUB_REST"], trust_env=False) as client:
            client.put(f"/v1/{topic}", json={})
            client.put(f"/v1/{worker}", json={"topic": topic})
            for text in ("late", "in time"):
                messages = [{"attributes": {"text": text}}]
                client.post(f"/v1/{topic}:publish", json={"messages": messages})
            pulled = client.post(f"/v1/{worker}:pull", json={"maxMessages": 5}).json()
            counters = client.get("/control/counters").json()
        serve.terminate()

    [received] = pulled["receivedMessages"]
    assert received["message"]["attributes"] == {"text": "in time"}
    assert counters["subscriptions"][worker]["delay"] == 1
    assert exports["CLOUDSDK_CORE_PROJECT"] == "p-project"
    assert serve.returncode == 130


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--pubsub-duplicate=2", "--pubsub-duplicate"),
        ("--pubsub-next=explode=projects/p/subscriptions/s", "duplicate, delay, reorder"),
        ("--pubsub-next=delay=worker", "projects/PROJECT/subscriptions/ID"),
        ("--pubsub-faulty=worker", "projects/PROJECT/subscriptions/ID"),
    ],
)
def test_a_malformed_option_is_named(option: str, complaint: str):
    ended = run("serve", option)

    assert ended.returncode == 2
    assert complaint in ended.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        others = ("--pubsub-rest-port", "0", "--vertex-port", "0", "--vertex-rest-port", "0")
        ended = run("up", "--pubsub-port", port, *others, "--folder", str(tmp_path))

    assert ended.returncode == 1
    assert port in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("seed", "'seed' is not KNOB=VALUE"),
        ("lost_answers=2", "lost_answers: Input should be less than or equal to 1"),
        ("dialect=odd", "dialect: 'odd' is not a dialect; dialects are default, "),
    ],
)
def test_a_knob_that_is_set_wrong_is_named(setting: str, words: str):
    ended = run("up", "--vertex", setting)

    assert ended.returncode == 2
    assert words in ended.stderr
