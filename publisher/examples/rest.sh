#!/bin/sh
# Copy a model by REST with nothing but curl. Usage: API_URL=https://... rest.sh SOURCE DESTINATION KEY
# The same key again is the same copy: a retry is harmless, also after a timeout.
set -eu
source_model=$1 destination=$2 key=$3

answer=$(curl --silent --show-error --fail-with-body --max-time 320 \
  --retry 5 --retry-connrefused --retry-max-time 1800 \
  --request POST "$API_URL/v1/models/copy" \
  --header "Content-Type: application/json" \
  --header "Idempotency-Key: $key" \
  ${MODEL_COPY_TOKEN:+--header "Authorization: Bearer $MODEL_COPY_TOKEN"} \
  --data "{\"source_model_id\": \"$source_model\", \"destination_model_id\": \"$destination\"}") || {
  echo "$answer" >&2 # a problem: what is wrong and what to do are in its "detail"
  exit 1
}
echo "$answer"
