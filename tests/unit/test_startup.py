"""What an instance imports before it listens: the framework and our settings, nothing heavy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENV = {
    "SOURCE_PROJECT": "s-project",
    "TARGET_PROJECT": "t-project",
    "STORE": "sqlite:///jobs.db",
    "AUDIENCE": "https://copier.example",
}
LOOK = """
import json, sys
import functions_framework.aio
before = set(sys.modules)
import main
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def start(env: dict[str, str], code: str = LOOK) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=kept | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_main_adds_only_the_settings_to_what_the_framework_imports():
    loaded = json.loads(start(ENV).stdout)

    assert loaded == [
        "main",
        "model_copier",
        "model_copier.domain",
        "model_copier.domain.access_policy",
        "model_copier.domain.copy_request",
        "model_copier.domain.locations",
        "model_copier.domain.resource_names",
        "model_copier.domain.senders",
        "model_copier.settings",
    ]


def test_a_store_that_is_not_named_is_never_imported():
    look = "import sys, main; main._service('all'); import model_copier.app; print(*sys.modules)"

    loaded = start(ENV, look).stdout.split()

    assert "model_copier.app" in loaded
    assert "google.cloud.firestore" not in loaded
    assert "model_copier.adapters.firestore_documents" not in loaded


@pytest.mark.parametrize("missing", ENV)
def test_a_missing_setting_ends_the_start_with_its_name(missing):
    ended = start({name: value for name, value in ENV.items() if name != missing})

    assert ended.returncode == 1
    assert f"{missing} is missing" in ended.stderr
    assert "Traceback" not in ended.stderr
