#!/bin/sh
# Copy a model by REST with nothing but curl. Usage: API_URL=https://... rest.sh SOURCE DESTINATION KEY
# The same key again is the same copy: a retry is harmless, also after a timeout.
# Exit codes: 0 copied, 1 not copied, 3 no outcome within MODEL_COPY_TIMEOUT seconds; the copy may go on.
# A token comes from MODEL_COPY_TOKEN, or a fresh one for each call from `model-copy token` where
# MODEL_COPY_AUDIENCE is set: a token lasts an hour, and so may a copy.
set -eu
source_model=$1 destination=$2 key=$3
case $key in
'' | *[!A-Za-z0-9._~-]*)
  echo "KEY: 1 to 128 of A-Z a-z 0-9 . _ ~ -" >&2
  exit 2
  ;;
esac
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

answer=$(call --get --request POST "$API_URL/v1/models/copy" \
  --header "Prefer: wait=240" --header "Idempotency-Key: $key" \
  --data-urlencode "source_model_id=$source_model" \
  --data-urlencode "destination_model_id=$destination") || {
  printf '%s\n' "$answer" >&2 # a problem: what is wrong and what to do are in its "detail"
  exit 1
}
while :; do
  case $answer in
    *'"outcome":"succeeded"'*) printf '%s\n' "$answer" && exit 0 ;;
    *'"done":true'*) printf '%s\n' "$answer" >&2 && exit 1 ;;
  esac
  if [ "$(date +%s)" -ge "$until" ]; then
    printf '%s\n' "$answer" >&2
    exit 3
  fi
  answer=$(call "$API_URL/v1/copies/$key?wait=240") || {
    printf '%s\n' "$answer" >&2
    exit 1
  }
done
