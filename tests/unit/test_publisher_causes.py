"""Advice of the publisher on refusals that no role mends."""

import pytest

from model_copy_publisher.causes import advice_on_aws, advice_on_refusal

IMDS = "HTTPConnectionPool(host='169.254.169.254', port=80): Read timed out. (/latest/api/token)"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (IMDS, "--http-put-response-hop-limit 2"),
        ("Unable to retrieve AWS role name <h1>404</h1>", "attach an instance profile"),
        ("Unable to retrieve AWS role name Forbidden", "--http-endpoint enabled"),
        ("Unable to retrieve AWS Session Token: b'403'", "--http-endpoint enabled"),
        ("no AWS role was found on this machine", "task role"),
        ("invalid_grant: the token is too old", ""),
    ],
)
def test_machine_on_aws_is_told_what_it_lacks(message: str, told: str):
    advice = advice_on_aws(message)

    assert told in advice
    assert bool(advice) is bool(told)
    assert "gcloud" not in advice


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "has not been used in project 12 before: see https://x/apis/api/pubsub.googleapis.com/y",
            "gcloud services enable pubsub.googleapis.com --project=12",
        ),
        ("no SERVICE_DISABLED", "gcloud services enable pubsub.googleapis.com --project=PROJECT"),
        ("This API method requires billing to be enabled on project #7", "projects describe 7"),
        ("prohibited. vpcServiceControlsUniqueIdentifier: x", "perimeter"),
        ("User not authorized to perform this action.", ""),
    ],
)
def test_refusal_by_google_is_told_by_its_cause(message: str, told: str):
    advice = advice_on_refusal(message, "pubsub.googleapis.com")

    assert told in advice
    assert bool(advice) is bool(told)
