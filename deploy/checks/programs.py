"""What other programs say of our files, where they are found; where not, that is said by name."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.checks.problem import Problem

# Installed with us come hadolint and shellcheck, beside this Python.
_OURS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Whatever it prints when it fails is a problem."""

    name: str
    arguments: Sequence[str]
    files: Sequence[Path]
    task: str = ""
    needs: Path | None = None  # what must be there besides the program

    @property
    def found(self) -> str | None:
        return shutil.which(self.name, path=str(_OURS)) or shutil.which(self.name)

    @property
    def skipped(self) -> str:
        """Why it cannot be asked; "" where it can."""
        if not self.found:
            return f"{self}: {self.name} is not installed"
        if self.needs is not None and not self.needs.exists():
            return f"{self}: {self.needs.name} is not here"
        return ""

    def __str__(self) -> str:
        return f"{self.name} {self.task}".strip()

    def problems(self) -> Iterator[Problem]:
        assert self.found is not None
        ended = subprocess.run(
            [self.found, *self.arguments, *map(str, self.files)],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            said = (ended.stdout.strip() or ended.stderr.strip()).splitlines()
            for line in said or [f"ended with {ended.returncode}"]:
                yield Problem(str(self), "", line)


def programs(deploy: Path) -> list[Program]:
    """Return whom to ask about what is in this folder."""
    terraform = deploy / "terraform"
    return [
        Program(
            name="terraform",
            task="fmt",
            arguments=["fmt", "-check", "-diff", "-no-color"],
            files=[terraform],
        ),
        Program(
            name="terraform",
            task="validate",
            arguments=[f"-chdir={terraform}", "validate", "-no-color"],
            files=[],
            needs=terraform / ".terraform",  # the provider, where `terraform init` has been run
        ),
        Program(
            name="hadolint",
            arguments=["--no-color"],
            files=[deploy / "Dockerfile"],
        ),
        Program(
            name="shellcheck",
            arguments=["--severity=style"],
            files=[deploy / "gcloud.sh"],
        ),
        Program(
            name="cfn-lint",
            arguments=["--non-zero-exit-code=informational"],
            files=sorted((deploy / "aws").glob("*.yaml")),
        ),
    ]
