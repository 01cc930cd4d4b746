"""The first document's way, to be measured beside ours: FastAPI, ``def``, ``Model.copy``.

Started by ``rest.py`` as a process of its own; nothing of the copier is in it.
"""

import os

from fastapi import FastAPI, HTTPException
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform

app = FastAPI()

SOURCE_PROJECT = os.environ["SOURCE_PROJECT"]
TARGET_PROJECT = os.environ["TARGET_PROJECT"]
LOCATION = os.environ["LOCATION"]


@app.post("/v1/models/copy")
def copy_model(source_model_id: str, destination_model_id: str) -> dict[str, str]:
    try:
        aiplatform.init(
            project=TARGET_PROJECT,
            location=LOCATION,
            credentials=AnonymousCredentials(),
            api_endpoint=os.environ["VERTEX_REST"],
            api_transport="rest",
        )
        name = f"projects/{SOURCE_PROJECT}/locations/{LOCATION}/models/{source_model_id}"
        copied = aiplatform.Model(model_name=name).copy(
            destination_location=LOCATION, destination_model_id=destination_model_id
        )
    except Exception as error:
        raise HTTPException(status_code=500, detail=str(error)) from error
    return {"status": "success", "resource_name": copied.resource_name}
