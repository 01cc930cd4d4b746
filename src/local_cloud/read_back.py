"""Read one model with google-cloud-aiplatform itself, in a process that knows nothing else.

    python -m local_cloud.read_back projects/P/locations/L/models/M

Prints a line of JSON; exit 1 when the model is not there. Needs VERTEX_REST
(``http://HOST:PORT``), which ``make up`` prints.
"""

import json
import os
import sys

from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform


def main(name: str) -> int:
    _, project, _, location, _, _ = name.split("/")
    aiplatform.init(
        project=project,
        location=location,
        api_endpoint=os.environ["VERTEX_REST"],
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    try:
        model = aiplatform.Model(name)
    except GoogleAPICallError as error:
        print(f"{name}: {error.message}", file=sys.stderr)
        return 1
    found = {
        "resource_name": model.resource_name,
        "version": model.version_id,
        "display_name": model.display_name,
        "copied_from": model.gca_resource.original_model_info.model,
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
