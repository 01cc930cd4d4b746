#!/bin/sh
# Copy a model by REST with nothing but curl. Usage: API_URL=https://... rest.sh SOURCE DESTINATION KEY
# The same key again is the same copy: a retry is harmless, also after a timeout.
# Exit codes: 0 copied, 1 not copied, 3 no outcome within MODEL_COPY_TIMEOUT seconds; the copy may go on.
# A token comes from MODEL_COPY_TOKEN, or a fresh one for each call from `model-copy token` where
# MODEL_COPY_AUDIENCE is set: a token lasts an hour, and so may a copy.
set -eu
source_model=$1 destination=$2 key=$3
until=$(($(date +%s) + ${MODEL_COPY_TIMEOUT:-7200}))

# No call is silent for more than 240 s: a NAT of AWS forgets a connection after 350.
call() {
  token=${MODEL_COPY_TOKEN:-}
  if [ -z "$token" ] && [ -n "${MODEL_COPY_AUDIENCE:-}" ]; then
    token=$(model-copy token --audience "$MODEL_COPY_AUDIENCE")
  fi
  curl --silent --show-error --fail-with-body --max-time 300 \
    --retry 5 --retry-connrefused --retry-max-time 1800 \
    ${token:+--header "Authorization: Bearer $token"} "$@"
}

answer=$(call --request POST "$API_URL/v1/models/copy" \
  --header "Content-Type: application/json" --header "Prefer: wait=240" \
  --header "Idempotency-Key: $key" \
  --data "{\"source_model_id\": \"$source_model\", \"destination_model_id\": \"$destination\"}") || {
  echo "$answer" >&2 # a problem: what is wrong and what to do are in its "detail"
  exit 1
}
while :; do
  case $answer in
    *'"outcome":"succeeded"'*) echo "$answer" && exit 0 ;;
    *'"done":true'*) echo "$answer" >&2 && exit 1 ;;
  esac
  if [ "$(date +%s)" -ge "$until" ]; then
    echo "$answer" >&2
    exit 3
  fi
  answer=$(call "$API_URL/v1/copies/$key?wait=240") || {
    echo "$answer" >&2
    exit 1
  }
done
