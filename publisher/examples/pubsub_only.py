"""Ask for a copy with google-cloud-pubsub alone: pubsub_only.py PROJECT SOURCE DESTINATION ID."""

import json
import sys

from google.cloud import pubsub_v1

project, source, destination, request_id = sys.argv[1:5]
data = json.dumps({"source_model_id": source, "destination_model_id": destination}).encode()
event = {"ce-specversion": "1.0", "ce-id": request_id, "ce-source": "//ec2/pipeline"}
event |= {"ce-type": "dev.modelcopier.copy.requested.v1", "content-type": "application/json"}
publisher = pubsub_v1.PublisherClient()
topic = publisher.topic_path(project, "model-copy-requests")
print(publisher.publish(topic, data, **event).result(timeout=60))  # the id of the message
