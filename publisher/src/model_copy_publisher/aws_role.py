"""The AWS role of this machine, wherever botocore finds it: ECS, Fargate, EKS, MWAA, a profile.

Needs the extra ``aws``. botocore keeps the role's credentials and renews them before they
end, so that asking again costs nothing.
"""

import os
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.session import Session
from google.auth import aws, exceptions


class AwsRole(aws.AwsSecurityCredentialsSupplier):
    """Answers google-auth, which signs a request to AWS with it that only proves the role."""

    def __init__(self) -> None:
        self._session = Session()

    def get_aws_security_credentials(self, context: Any, request: Any) -> Any:
        """Return the role's present credentials."""
        del context, request
        try:
            credentials = self._session.get_credentials()
            frozen = credentials and credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise exceptions.RefreshError(f"no AWS role: {error}") from error
        if not frozen:
            raise exceptions.RefreshError("no AWS role was found on this machine")
        return aws.AwsSecurityCredentials(frozen.access_key, frozen.secret_key, frozen.token)

    def get_aws_region(self, context: Any, request: Any) -> str:
        """Return the region; any does, for it only names the endpoint that is signed for."""
        del context, request
        # AWS sets the first in containers; botocore itself looks only for the second.
        set_by_aws = os.environ.get("AWS_REGION")
        return set_by_aws or self._session.get_config_variable("region") or "us-east-1"
