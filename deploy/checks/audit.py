"""``make audit``: known vulnerabilities of what the locks name, or plainly that it is not known.

pip-audit asks an advisory service for each package. Where the service is not reached, or knows
nothing of a package (a mirror), pip-audit leaves the package out and is content; we are not.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PIP_AUDIT = Path(".audit/bin/pip-audit")
FOUND, UNKNOWN = 1, 2


@dataclass(frozen=True, slots=True)
class Verdict:
    lines: Sequence[str]
    code: int


def verdict_of(lock: str, report: str, said: str) -> Verdict:
    """Judge what pip-audit printed: its report, and what it said beside it."""
    try:
        packages = json.loads(report)["dependencies"]
    except ValueError:
        why = (said.strip().splitlines() or ["it said nothing"])[-1]
        return Verdict([f"{lock}: NOT AUDITED, pip-audit did not come to an end: {why}"], UNKNOWN)
    left_out = [each for each in packages if "skip_reason" in each]
    lines = [
        f"{lock}: {each['name']} {each['version']}: {found['id']}"
        f", mended in {', '.join(found['fix_versions']) or 'no version yet'}"
        for each in packages
        for found in each.get("vulns", [])
    ]
    code = FOUND if lines else 0
    if left_out:
        why = left_out[0]["skip_reason"]
        lines.append(f"{lock}: NOT AUDITED: {len(left_out)} of {len(packages)} packages ({why})")
        code = code or UNKNOWN
    known = len(packages) - len(left_out)
    return Verdict([*lines, f"{lock}: {known} of {len(packages)} packages audited"], code)


def main(locks: Sequence[str]) -> int:
    code = 0
    for lock in locks:
        asked = subprocess.run(
            [PIP_AUDIT, "--disable-pip", "--require-hashes", "--format=json", "-r", lock],
            capture_output=True,
            text=True,
            check=False,
        )
        verdict = verdict_of(lock, asked.stdout, asked.stderr)
        print("\n".join(verdict.lines))
        code = max(code, verdict.code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
