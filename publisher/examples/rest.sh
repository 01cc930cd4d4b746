#!/bin/sh
# Copy a model by REST with nothing but curl. Usage: API_URL=https://... rest.sh SOURCE DESTINATION KEY
# The same key again is the same copy: a retry is harmless, also after a timeout.
set -eu
source_model=$1 destination=$2 key=$3
case $key in
'' | *[!A-Za-z0-9._~-]*)
  echo "KEY: 1 to 128 of A-Z a-z 0-9 . _ ~ -" >&2
  exit 2
  ;;
esac

answer=$(curl --silent --show-error --fail-with-body --max-time 320 \
  --retry 5 --retry-connrefused --retry-max-time 1800 \
  --get --request POST "$API_URL/v1/models/copy" \
  --header "Idempotency-Key: $key" \
  ${MODEL_COPY_TOKEN:+--header "Authorization: Bearer $MODEL_COPY_TOKEN"} \
  --data-urlencode "source_model_id=$source_model" \
  --data-urlencode "destination_model_id=$destination") || {
  printf '%s\n' "$answer" >&2 # a problem: what is wrong and what to do are in its "detail"
  exit 1
}
printf '%s\n' "$answer"
