"""The Dockerfile is held to its rules, and what is sent to be built is what runs.

Its steps are performed by ``make try-image``, which takes a minute.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from deploy.checks.__main__ import DEPLOY
from deploy.checks.image import Dockerfile, problems, texts

ROOT = DEPLOY.parent
MISTAKES = {
    "root": ("USER 65532:65532", "USER root", "USER"),
    "number nought": ("USER 65532:65532", "USER 0", "USER"),
    "no hashes": ("--require-hashes ", "", "RUN"),
    "dependencies resolved": ("--no-deps ", "", "RUN"),
    "packages built": ("--only-binary=:all: ", "", "RUN"),
    "not compiled": ("-m compileall", "-m pip", "RUN"),
    "pip left inside": ("RUN python -m pip uninstall", "RUN python -m pip list", "RUN"),
    "a shell": ('CMD ["functions-framework", "--source=/copier/main.py"]', "CMD run", "CMD"),
    "everything copied": ("COPY main.py /copier/", "COPY . /copier/", "COPY"),
    "no revision": ("image.revision=", "image.rev=", "LABEL"),
}


def test_the_dockerfile_has_no_problem():
    assert list(problems(DEPLOY / "Dockerfile")) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_dockerfile_is_found(mistake, tmp_path):
    old, new, place = MISTAKES[mistake]
    text = (DEPLOY / "Dockerfile").read_text()
    assert old in text
    (tmp_path / "Dockerfile").write_text(text.replace(old, new))

    found = problems(tmp_path / "Dockerfile")

    assert [problem.place for problem in found] == [place]


def test_the_image_is_started_as_the_local_run_starts_the_worker():
    command = Dockerfile.read(DEPLOY / "Dockerfile").command

    assert command == ["functions-framework", "--source=/copier/main.py"]


def test_what_a_build_sees_is_what_the_dockerfile_copies():
    stages = Dockerfile.read(DEPLOY / "Dockerfile").stages
    copied = {text.split()[0] for stage in stages for text in texts(stage, "COPY")}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()

    seen = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert seen == {source for source in copied if not source.startswith("--")}


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
def test_gcloud_uploads_what_runs_and_nothing_else(tmp_path):
    listed = subprocess.run(
        ["gcloud", "meta", "list-files-for-upload", ROOT],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    package = {str(file.relative_to(ROOT)) for file in (ROOT / "src/model_copier").rglob("*.py")}
    uploaded = {name for name in listed.stdout.split() if Path(name).name != "py.typed"}
    assert uploaded == package | {"main.py", "requirements.txt"}
