"""``make check-deploy``: is what we deploy right, as far as can be told without Google?"""

import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.checks import aws, image, policy, provider, references
from deploy.checks.configuration import Configuration, UnreadableError
from deploy.checks.problem import Problem
from deploy.checks.programs import programs

DEPLOY = Path(__file__).parents[1]


def problems(terraform: Path) -> Iterator[Problem]:
    """Yield all that is wrong with a configuration, by our own rules."""
    try:
        configuration = Configuration.read(terraform)
    except UnreadableError as error:
        yield Problem("", "", str(error))
        return
    seen = set()
    for look in (provider, references, policy):
        for problem in look.problems(configuration):
            if str(problem) not in seen:
                seen.add(str(problem))
                yield problem


def main() -> int:
    found = [
        *problems(DEPLOY / "terraform"),
        *image.problems(DEPLOY / "Dockerfile"),
        *aws.problems(DEPLOY / "aws"),
    ]
    asked = []
    for program in programs(DEPLOY):
        if program.skipped:
            print(f"skipped: {program.skipped}")
            continue
        asked.append(str(program))
        found += program.problems()
    for problem in found:
        print(problem)
    print(f"{len(found) or 'no'} problems, by our own rules and {', '.join(asked)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
