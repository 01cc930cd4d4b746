"""An audit that could not be made never passes for one that found nothing."""

import json

import pytest
from deploy.checks.audit import FOUND, UNKNOWN, verdict_of

SOUND = {"name": "starlette", "version": "1.10.0", "vulns": []}
LEFT_OUT = {"name": "uvicorn", "skip_reason": "Dependency not found"}
HOLED = {
    "name": "h11",
    "version": "0.1",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16"], "aliases": [], "description": "."}],
}


@pytest.mark.parametrize(
    ("packages", "code", "named"),
    [
        ([SOUND], 0, "1 of 1 packages audited"),
        ([SOUND, LEFT_OUT], UNKNOWN, "NOT AUDITED: 1 of 2 packages (Dependency not found)"),
        ([SOUND, HOLED], FOUND, "h11 0.1: PYSEC-1, mended in 0.16"),
        ([LEFT_OUT, HOLED], FOUND, "NOT AUDITED: 1 of 2"),
    ],
)
def test_what_pip_audit_left_out_is_told(packages, code, named):
    verdict = verdict_of("requirements.txt", json.dumps({"dependencies": packages}), "")

    assert verdict.code == code
    assert named in "\n".join(verdict.lines)


def test_an_advisory_service_that_is_away_is_no_clean_bill():
    verdict = verdict_of("requirements.txt", "", "ERROR:pip_audit: ConnectionError\n")

    assert verdict.code == UNKNOWN
    assert "NOT AUDITED" in verdict.lines[0]
    assert "ConnectionError" in verdict.lines[0]
