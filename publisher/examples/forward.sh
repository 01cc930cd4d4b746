#!/bin/sh
# Forward one reply to AWS; the event comes on standard input. For `model-copy watch --exec`:
#
#   SNS_TOPIC=arn:aws:sns:eu-west-1:1234:model-copies model-copy watch \
#     --subscription replies-for-aws --exec /opt/model-copy/forward.sh
#
# Exits with 0 only once AWS has taken it; otherwise the event comes again. It may be sent twice:
# its id is the deduplication id of a FIFO topic or queue, and "event_id" for everybody else.
# Ids are what others wrote: the AWS CLI reads a file for file://..., and takes --... for an option.
# So they have a prefix here, although watch gives none that could be either.
set -eu
event=$(cat)
group=$(printf 'id-%.125s' "$MODEL_COPY_REQUEST_ID") once=$(printf 'id-%.125s' "$MODEL_COPY_EVENT_ID")

if [ -n "${EVENT_BUS:-}" ]; then
  entries=$(printf '%s' "$event" | python3 -c '
import json, os, sys
event = sys.stdin.read()
entry = {"EventBusName": os.environ["EVENT_BUS"], "Source": "dev.modelcopier", "Detail": event,
         "DetailType": "Model copy " + json.loads(event)["outcome"]}
print(json.dumps([entry]))')
  # It answers 0 although an entry was refused, and says so only in its answer.
  failed=$(aws events put-events --entries "$entries" --query FailedEntryCount --output text)
  [ "$failed" = 0 ]
elif [ -n "${SNS_TOPIC:-}" ]; then
  case $SNS_TOPIC in
  *.fifo) set -- --message-group-id "$group" --message-deduplication-id "$once" ;;
  esac
  aws sns publish --topic-arn "$SNS_TOPIC" --message "$event" "$@" >/dev/null \
    --message-attributes "outcome={DataType=String,StringValue=$MODEL_COPY_OUTCOME}"
else
  case $SQS_QUEUE in
  *.fifo) set -- --message-group-id "$group" --message-deduplication-id "$once" ;;
  esac
  aws sqs send-message --queue-url "$SQS_QUEUE" --message-body "$event" "$@" >/dev/null
fi
