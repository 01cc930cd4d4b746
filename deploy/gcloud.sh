#!/usr/bin/env bash
# The copier without Terraform: the same topics, accounts, roles and services, by gcloud alone.
#
#   deploy/gcloud.sh --project=serving --sources=tuning --targets=serving --image=IMAGE [more] [--dry-run]
#   deploy/gcloud.sh --project=serving --sources=tuning --targets=serving --destroy
#
# May be run again at any time: what is there is left, or brought up to date. What it does not make are
# alerts and the BigQuery subscription (terraform/alerts.tf, bigquery.tf). docs/install.md tells the rest.
set -euo pipefail
((BASH_VERSINFO[0] >= 5)) || { echo "gcloud.sh: bash $BASH_VERSION is too old; take 5 or newer" >&2 && exit 2; }
shopt -s inherit_errexit

usage() {
  cat <<'HELP'
usage: deploy/gcloud.sh --project=ID --sources=ID,... --targets=ID,... (--image=IMAGE | --source) [options]

  --project=ID          of topics, worker, api and jobs
  --sources=ID,...      projects that models may be copied from; the first is the default
  --targets=ID,...      projects that models may be copied to; the first is the default
  --image=IMAGE         of worker and api, by its digest; or --source: Cloud Build makes one from here
  --region=REGION       us-central1 unless given
  --name=NAME           what every name begins with; model-copy unless given
  --audience=WORD       what tokens must be for
  --allow-cancel        let worker and api cancel copies: aiplatform.models.update in the targets
  --publishers=M,...    who may ask for copies (serviceAccount:..., group:...)
  --waiters=M,...       who may wait for replies with a subscription of their own (docs/security.md)
  --waiter-project=ID   where they make it: another project than --project
  --operators=M,...     who may see and replay dead letters
  --callers=FILE        TOML file of the accounts that may call the api; without it there is no api
  --aws-account=DIGITS  with --aws-roles=NAME,...: roles of AWS that may publish, by their names
  --only=PART,...       of: services accounts topics store roles worker subscriptions ticks people api aws
  --worker-url=URL      where to push to, with --only=subscriptions; else it is asked for
  --dry-run             print the commands, run none; --dry-run=again: of a second run
  --destroy             take everything out again, but for the jobs
HELP
}

PARTS=(services accounts topics store roles worker subscriptions ticks people api aws)
PROJECT='' SOURCES='' TARGETS='' IMAGE='' REGION=us-central1 NAME=model-copy AUDIENCE='' PUBLISHERS=''
WAITERS='' WAITER_PROJECT='' OPERATORS='' CALLERS='' AWS_ACCOUNT='' AWS_ROLES='' ALLOW_CANCEL='' ONLY='' WORKER_URL='' FROM_SOURCE='' DRY_RUN='' AGAIN='' DESTROY=''

fail() {
  echo "gcloud.sh: $*" >&2
  exit 2
}

for argument in "$@"; do
  value=${argument#*=}
  case $argument in
    --project=?*) PROJECT=$value ;;
    --sources=?*) SOURCES=$value ;;
    --targets=?*) TARGETS=$value ;;
    --image=?*) IMAGE=$value ;;
    --source) FROM_SOURCE=yes ;;
    --region=?*) REGION=$value ;;
    --name=?*) NAME=$value ;;
    --audience=?*) AUDIENCE=$value ;;
    --allow-cancel) ALLOW_CANCEL=yes ;;
    --publishers=?*) PUBLISHERS=$value ;;
    --waiters=?*) WAITERS=$value ;;
    --waiter-project=?*) WAITER_PROJECT=$value ;;
    --operators=?*) OPERATORS=$value ;;
    --callers=?*) CALLERS=$value ;;
    --aws-account=?*) AWS_ACCOUNT=$value ;;
    --aws-roles=?*) AWS_ROLES=$value ;;
    --only=?*) ONLY=$value ;;
    --worker-url=?*) WORKER_URL=$value ;;
    --dry-run) DRY_RUN=yes ;;
    --dry-run=again) DRY_RUN=yes AGAIN=yes ;;
    --destroy) DESTROY=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "$argument is no option, or has no value; --help lists them" ;;
  esac
done

[[ $PROJECT =~ ^[a-z][a-z0-9-]{4,28}[a-z0-9]$ ]] || fail "--project should be a project id, not '$PROJECT'"
[[ -n $SOURCES ]] || fail "--sources is missing: projects that models may be copied from"
[[ -n $TARGETS ]] || fail "--targets is missing: projects that models may be copied to"
# Every value goes into commands, lists of variables or conditions: what could end one is refused.
each_is() { # option, value, what each part by comma should match, in words
  local part
  [[ $2 != *[[:space:]]* && $2 != ,* && $2 != *, && $2 != *,,* ]] || fail "$1 should be $4, by comma, without blanks"
  for part in ${2//,/ }; do
    [[ $part =~ $3 ]] || fail "$1 should be $4, not '$part'"
  done
}
ID='^[a-z][a-z0-9-]{4,28}[a-z0-9]$'
MEMBER='^((serviceAccount|user|group):[A-Za-z0-9._%+-]+@[a-z0-9.-]+|principal(Set)?://[A-Za-z0-9._:/@=+-]+)$'
set -f # a pattern such as * is no list of files
each_is --sources "$SOURCES" "$ID" 'project ids'
each_is --targets "$TARGETS" "$ID" 'project ids'
each_is --waiter-project "$WAITER_PROJECT" "$ID" 'a project id'
each_is --publishers "$PUBLISHERS" "$MEMBER" 'serviceAccount:EMAIL, user:EMAIL, group:EMAIL, principal://... or principalSet://..., and never everybody'
each_is --waiters "$WAITERS" "$MEMBER" 'serviceAccount:EMAIL, user:EMAIL, group:EMAIL, principal://... or principalSet://..., and never everybody'
each_is --operators "$OPERATORS" "$MEMBER" 'serviceAccount:EMAIL, user:EMAIL, group:EMAIL, principal://... or principalSet://..., and never everybody'
[[ $REGION =~ ^[a-z]+-[a-z]+[0-9]+$ ]] || fail "--region should be a region such as us-central1, not '$REGION'"
[[ -z $IMAGE || $IMAGE =~ ^[a-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}$ ]] ||
  fail "--image should name a digest, as in REGION-docker.pkg.dev/PROJECT/REPOSITORY/model-copier@sha256:..., not '$IMAGE'"
[[ -z $AUDIENCE || $AUDIENCE =~ ^[A-Za-z0-9._:/@-]+$ ]] || fail "--audience should be one word, not '$AUDIENCE'"
[[ -z $WORKER_URL || $WORKER_URL =~ ^https?://[A-Za-z0-9.:-]+$ ]] || fail "--worker-url should be https://HOST, not '$WORKER_URL'"
[[ $NAME =~ ^[a-z][a-z0-9-]{2,15}[a-z0-9]$ ]] || fail "--name should have 4 to 17 of a-z, 0-9 and -, not '$NAME'"
[[ -z $CALLERS || -r $CALLERS ]] || fail "--callers: $CALLERS cannot be read"
# A person's own token is for gcloud, and for no service: the grant would open nothing.
[[ -z $CALLERS ]] || ! grep -Eq '^account *= *"' "$CALLERS" ||
  ! grep -E '^account *= *"' "$CALLERS" | grep -Evq '^account *= *"[a-z0-9._%+-]+@[a-z0-9.-]+[.]gserviceaccount[.]com" *(#.*)?$' ||
  fail "--callers: each account should be a service account; people call as one that they may impersonate (docs/rest.md)"
[[ -z $AWS_ACCOUNT || $AWS_ACCOUNT =~ ^[0-9]{12}$ ]] || fail "--aws-account should have 12 digits"
[[ -z $AWS_ACCOUNT || -n $AWS_ROLES ]] || fail "--aws-roles is missing: which roles of the account"
each_is --aws-roles "$AWS_ROLES" '^[A-Za-z0-9+=.@_-]{1,64}$' 'names of roles, without path and without *'
# Pub/Sub cannot bound "delete subscriptions" to one's own: in the topics' project it would hold for
# the requests and the dead letters too.
[[ -n $DESTROY || -z $WAITERS$AWS_ACCOUNT || (-n $WAITER_PROJECT && $WAITER_PROJECT != "$PROJECT") ]] ||
  fail "--waiter-project is missing: --waiters and --aws-account wait with subscriptions of their own, in another project than --project (docs/security.md)"
for part in ${ONLY//,/ }; do
  [[ " ${PARTS[*]} " == *" $part "* ]] || fail "--only=$part is no part; there are ${PARTS[*]}"
done

WAITER_PROJECT=${WAITER_PROJECT:-$PROJECT}
AUDIENCE=${AUDIENCE:-https://$NAME.$PROJECT.example}

# Google's samples mint tokens for the URL that they call, with or without its path.
audiences() {
  local url
  url=https://$NAME-api-$(number_of "$PROJECT").$REGION.run.app
  echo "$AUDIENCE,$url,$url/v1/models/copy"
}
ROLE=$(for word in ${NAME//-/ }; do printf %s "${word^}"; done)

account() { echo "$NAME-$1@$PROJECT.iam.gserviceaccount.com"; }

# Print a command so that it could be pasted: + changes something, ? only looks.
say() {
  printf %s "$1" >&2
  printf ' %q' "${@:2}" >&2
  printf '\n' >&2
}

run() {
  say + "$@"
  [[ -n $DRY_RUN ]] || "$@"
}

google() { run gcloud "$@" --project="$PROJECT" --quiet; }

# Whether something is there, in the copier's project unless another is named.
there() {
  local project=(--project="$PROJECT")
  [[ " $* " != *" --project="* ]] || project=()
  if [[ -n $DRY_RUN ]]; then
    [[ -n $AGAIN ]] && say '?' gcloud "$@" "${project[@]}"
    return
  fi
  gcloud "$@" "${project[@]}" --quiet >/dev/null 2>&1
}

# What gcloud says; something that stands for it while we only print.
ask() {
  if [[ -n $DRY_RUN ]]; then
    [[ -z $AGAIN ]] || say '?' gcloud "${@:2}"
    echo "$1"
  else
    gcloud "${@:2}"
  fi
}

# A new account is known everywhere only after some seconds.
patiently() {
  local tries=6
  until "$@"; do
    ((--tries)) || return 1
    echo "gcloud.sh: once more, in 10 s" >&2
    sleep 10
  done
}

# ID=NUMBER of each: Vertex AI names projects by either, and requests may too.
with_numbers() {
  local project pairs=()
  for project in ${1//,/ }; do pairs+=("$project=$(number_of "$project")"); done
  (IFS=, && echo "${pairs[*]}")
}

number_of() { ask 000000000000 projects describe "$1" --format='value(projectNumber)'; }

grant_topic() { patiently google pubsub topics add-iam-policy-binding "$NAME-$1" --member="$2" --role="$3"; }

grant_subscription() {
  patiently google pubsub subscriptions add-iam-policy-binding "$NAME-$1" --member="$2" --role="$3"
}

# On a whole project; the last argument is the condition.
grant_project() {
  patiently run gcloud projects add-iam-policy-binding "$1" --member="$2" --role="$3" \
    --condition="$4" --quiet
}

revoke_project() {
  run gcloud projects remove-iam-policy-binding "$1" --member="$2" --role="$3" --all --quiet || true
}

role() { # project, name, permissions
  if ! there iam roles describe "$2" --project="$1"; then
    run gcloud iam roles create "$2" --project="$1" --title="Model copier: $2" --permissions="$3" \
      --stage=GA --quiet
    return
  fi
  # What was destroyed is kept for some days, and its name with it.
  [[ $(ask True iam roles describe "$2" --project="$1" --format='value(deleted)') != True ]] ||
    run gcloud iam roles undelete "$2" --project="$1" --quiet
  run gcloud iam roles update "$2" --project="$1" --permissions="$3" --quiet
}

services() {
  google services enable bigquery.googleapis.com cloudscheduler.googleapis.com firestore.googleapis.com \
    iam.googleapis.com iamcredentials.googleapis.com logging.googleapis.com pubsub.googleapis.com \
    run.googleapis.com secretmanager.googleapis.com sts.googleapis.com
  for target in ${TARGETS//,/ }; do
    run gcloud services enable aiplatform.googleapis.com --project="$target" --quiet
  done
}

accounts() {
  for who in worker api push; do
    there iam service-accounts describe "$(account $who)" ||
      google iam service-accounts create "$NAME-$who" --display-name="Model copier: $who"
  done
}

TOPICS=(requests replies dead-letters ticks)
SUBSCRIPTIONS=(requests ticks forwarded dead-letters)

# Which of these topics or subscriptions are there, or missing.
listed() { # topics or subscriptions, there or missing, names
  local kind=$1 which=$2 all='' found name
  shift 2
  [[ -z $AGAIN && -z $DESTROY ]] || all=$(printf "$NAME-%s " "$@")
  found=$(ask "$all" pubsub "$kind" list --format='value(name.basename())' --project="$PROJECT")
  for name in "$@"; do
    if [[ " ${found//$'\n'/ } " == *" $NAME-$name "* ]]; then
      [[ $which == missing ]] || echo "$NAME-$name"
    else
      [[ $which == there ]] || echo "$NAME-$name"
    fi
  done
}

topics() {
  local found names
  found=$(listed topics missing "${TOPICS[@]}")
  mapfile -t names <<<"$found"
  [[ -z $found ]] || google pubsub topics create "${names[@]}"
}

# Fields as terraform/firestore.tf has them.
store() {
  there firestore databases describe --database="$NAME" ||
    google firestore databases create --database="$NAME" --location="$REGION" \
      --type=firestore-native --delete-protection --enable-pitr
  for collection in jobs destinations queues; do
    google firestore indexes fields update '*' --database="$NAME" \
      --collection-group="$NAME-$collection" --disable-indexes
  done
  for index in due_at:order=ascending listed:order=descending marks:array-config=contains \
    unfinished:order=descending waits:order=ascending; do
    google firestore indexes fields update "${index%%:*}" --database="$NAME" \
      --collection-group="$NAME-jobs" --index="${index#*:},query-scope=collection"
  done
  google firestore indexes fields update expires_at --database="$NAME" \
    --collection-group="$NAME-jobs" --disable-indexes
  google firestore fields ttls update expires_at --database="$NAME" \
    --collection-group="$NAME-jobs" --enable-ttl
}

cancelling() { # target
  local target=$1 who
  role "$target" "${ROLE}Cancel" "aiplatform.models.update"
  for who in worker api; do
    grant_project "$target" "serviceAccount:$(account $who)" "projects/$target/roles/${ROLE}Cancel" None
  done
}

roles() {
  local agent who target source
  agent=serviceAccount:service-$(number_of "$PROJECT")@gcp-sa-pubsub.iam.gserviceaccount.com
  patiently google iam service-accounts add-iam-policy-binding "$(account push)" \
    --member="$agent" --role=roles/iam.serviceAccountTokenCreator
  # Without this one and the one on the subscription nothing is ever dead-lettered.
  grant_topic dead-letters "$agent" roles/pubsub.publisher
  role "$PROJECT" "${ROLE}Jobs" "datastore.databases.get,datastore.entities.allocateIds,datastore.entities.create,datastore.entities.delete,datastore.entities.get,datastore.entities.list,datastore.entities.update"
  for who in worker api; do
    for topic in replies dead-letters ticks; do
      grant_topic $topic "serviceAccount:$(account $who)" roles/pubsub.publisher
    done
    grant_project "$PROJECT" "serviceAccount:$(account $who)" "projects/$PROJECT/roles/${ROLE}Jobs" \
      "expression=resource.name == \"projects/$PROJECT/databases/$NAME\",title=jobs only"
  done
  for target in ${TARGETS//,/ }; do
    role "$target" "${ROLE}Target" "aiplatform.models.get,aiplatform.models.list,aiplatform.models.upload,aiplatform.operations.list"
    for who in worker api; do
      grant_project "$target" "serviceAccount:$(account $who)" "projects/$target/roles/${ROLE}Target" None
    done
    [[ -z $ALLOW_CANCEL ]] || cancelling "$target"
  done
  for source in ${SOURCES//,/ }; do
    role "$source" "${ROLE}Source" aiplatform.models.get
    for who in worker api; do
      grant_project "$source" "serviceAccount:$(account $who)" "projects/$source/roles/${ROLE}Source" None
    done
    for target in ${TARGETS//,/ }; do
      [[ $source == "$target" ]] || grant_project "$source" \
        "serviceAccount:service-$(number_of "$target")@gcp-sa-aiplatform.iam.gserviceaccount.com" \
        roles/aiplatform.serviceAgent None
    done
  done
}

deploy() { # target, ingress, account, more
  local target=$1 ingress=$2 timeout=$3 from=() accepted=$AUDIENCE
  shift 3
  [[ $target != api ]] || accepted=$(audiences)
  if [[ -n $FROM_SOURCE ]]; then
    from=(--source=. --function="$target" --base-image=python311)
  else
    [[ -n $IMAGE ]] || fail "--image or --source is missing: what $target is made of"
    from=(--image="$IMAGE")
  fi
  local settings=(
    "FUNCTION_TARGET=$target" "SOURCE_PROJECT=${SOURCES%%,*}" "TARGET_PROJECT=${TARGETS%%,*}"
    "ALLOWED_SOURCE_PROJECTS=$(with_numbers "$SOURCES")" "ALLOWED_TARGET_PROJECTS=$(with_numbers "$TARGETS")" "LOCATION=$REGION"
    "PUBSUB_PROJECT=$PROJECT" "REQUEST_TOPIC=$NAME-requests" "REPLY_TOPIC=$NAME-replies"
    "DEAD_LETTER_TOPIC=$NAME-dead-letters" "TICK_TOPIC=$NAME-ticks" "STORE=firestore://$PROJECT/$NAME?collection=$NAME"
    "AUDIENCE=$accepted" "PUSH_ACCOUNT=$(account push)" "TOKEN_CHECKS=trust-cloud-run"
  )
  [[ $target != api ]] || settings+=("CALLERS_FILE=/callers/callers.toml")
  google run deploy "$NAME-$target" --region="$REGION" "${from[@]}" \
    --service-account="$(account "$target")" --no-allow-unauthenticated --ingress="$ingress" \
    --set-custom-audiences="$accepted" --concurrency=1000 --timeout="$timeout" --max-instances=4 \
    --cpu=1 --memory=1Gi --cpu-throttling --cpu-boost \
    --set-env-vars="^;^$(
      IFS=';'
      echo "${settings[*]}"
    )" "$@"
}

worker() {
  deploy worker internal 600
  google run services add-iam-policy-binding "$NAME-worker" --region="$REGION" \
    --member="serviceAccount:$(account push)" --role=roles/run.invoker
}

subscription() { # name, topic, path or '', more
  local how=(--message-retention-duration=31d --expiration-period=never --ack-deadline=60) at_first=()
  local name=$1 topic=$2 path=$3
  shift 3
  [[ -z $path ]] || how+=(
    --min-retry-delay=10s --max-retry-delay=600s --push-endpoint="$WORKER_URL$path"
    --push-auth-service-account="$(account push)" --push-auth-token-audience="$AUDIENCE"
  )
  [[ $name != forwarded ]] || at_first=(--message-filter=attributes:CloudPubSubDeadLetterSourceSubscription)
  if [[ $'\n'$PRESENT$'\n' == *$'\n'"$NAME-$name"$'\n'* ]]; then
    google pubsub subscriptions update "$NAME-$name" "${how[@]}" "$@"
  else
    google pubsub subscriptions create "$NAME-$name" --topic="$NAME-$topic" "${how[@]}" "$@" "${at_first[@]}"
  fi
}

subscriptions() {
  if [[ -z $WORKER_URL ]]; then
    WORKER_URL=$(ask https://WORKER run services describe "$NAME-worker" --region="$REGION" \
      --project="$PROJECT" --format='value(status.url)')
  fi
  PRESENT=$(listed subscriptions there "${SUBSCRIPTIONS[@]}")
  subscription requests requests /pubsub/requests \
    --dead-letter-topic="$NAME-dead-letters" --max-delivery-attempts=100
  subscription ticks ticks /pubsub/ticks --ack-deadline=600 --message-retention-duration=10m
  subscription forwarded dead-letters /pubsub/dead-letters
  subscription dead-letters dead-letters '' --ack-deadline=10
}

ticks() {
  local command=create sink=create target identity
  there scheduler jobs describe "$NAME-ticks" --location="$REGION" && command=update
  google scheduler jobs $command pubsub "$NAME-ticks" --location="$REGION" --schedule='* * * * *' \
    --time-zone=Etc/UTC --topic="projects/$PROJECT/topics/$NAME-ticks" --message-body='{}'
  for target in ${TARGETS//,/ }; do
    sink=create
    there logging sinks describe "$NAME-ended" --project="$target" && sink=update
    run gcloud logging sinks $sink "$NAME-ended" "pubsub.googleapis.com/projects/$PROJECT/topics/$NAME-ticks" \
      --project="$target" --quiet \
      --log-filter='log_id("cloudaudit.googleapis.com/activity") protoPayload.serviceName="aiplatform.googleapis.com" protoPayload.methodName:"ModelService.CopyModel" NOT (operation.first=true AND NOT operation.last=true)'
    identity=$(ask serviceAccount:SINK logging sinks describe "$NAME-ended" --project="$target" \
      --format='value(writerIdentity)')
    grant_topic ticks "$identity" roles/pubsub.publisher
  done
}

waiter() {
  grant_project "$WAITER_PROJECT" "$1" "projects/$WAITER_PROJECT/roles/${ROLE}Waiter" None
  grant_topic replies "$1" roles/pubsub.subscriber
}

people() {
  local agent
  agent=serviceAccount:service-$(number_of "$PROJECT")@gcp-sa-pubsub.iam.gserviceaccount.com
  grant_subscription requests "$agent" roles/pubsub.subscriber
  for member in ${PUBLISHERS//,/ }; do
    grant_topic requests "$member" roles/pubsub.publisher
  done
  if [[ -n $WAITERS$AWS_ACCOUNT ]]; then
    role "$WAITER_PROJECT" "${ROLE}Waiter" "pubsub.subscriptions.consume,pubsub.subscriptions.create,pubsub.subscriptions.delete,pubsub.subscriptions.get"
  fi
  for member in ${WAITERS//,/ }; do
    waiter "$member"
  done
  for member in ${OPERATORS//,/ }; do
    grant_topic requests "$member" roles/pubsub.publisher
    grant_topic dead-letters "$member" roles/pubsub.publisher
    grant_subscription dead-letters "$member" roles/pubsub.subscriber
  done
}

api() {
  [[ -n $CALLERS ]] || return 0
  if there secrets describe "$NAME-callers"; then
    google secrets versions add "$NAME-callers" --data-file="$CALLERS"
  else
    google secrets create "$NAME-callers" --data-file="$CALLERS" --replication-policy=automatic
  fi
  google secrets add-iam-policy-binding "$NAME-callers" --member="serviceAccount:$(account api)" \
    --role=roles/secretmanager.secretAccessor
  deploy api all 3600 --set-secrets="/callers/callers.toml=$NAME-callers:latest" \
    --startup-probe=httpGet.path=/health,timeoutSeconds=10,periodSeconds=10,failureThreshold=6
  sed -n 's/^account *= *"\([^"]*\)".*/\1/p' "$CALLERS" | while read -r caller; do
    google run services add-iam-policy-binding "$NAME-api" --region="$REGION" \
      --member="serviceAccount:$caller" --role=roles/run.invoker
  done
}

aws() {
  [[ -n $AWS_ACCOUNT ]] || return 0
  local pool="$NAME-aws" arns='' arn provider=create-aws mapping
  for each in ${AWS_ROLES//,/ }; do
    arns+="${arns:+,}'arn:aws:sts::$AWS_ACCOUNT:assumed-role/$each'"
  done
  mapping="google.subject=assertion.arn,attribute.aws_role=assertion.arn.extract('{account_arn}assumed-role/') + 'assumed-role/' + assertion.arn.extract('assumed-role/{role_name}/')"
  there iam workload-identity-pools describe "$pool" --location=global ||
    google iam workload-identity-pools create "$pool" --location=global --display-name='Model copier: AWS'
  there iam workload-identity-pools providers describe roles --location=global \
    --workload-identity-pool="$pool" && provider=update-aws
  google iam workload-identity-pools providers $provider roles --location=global \
    --workload-identity-pool="$pool" --account-id="$AWS_ACCOUNT" --attribute-mapping="$mapping" \
    --attribute-condition="attribute.aws_role in [$arns]"
  there iam service-accounts describe "$(account aws)" ||
    google iam service-accounts create "$pool" --display-name='Model copier: publisher on AWS'
  for each in ${AWS_ROLES//,/ }; do
    arn=arn:aws:sts::$AWS_ACCOUNT:assumed-role/$each
    patiently google iam service-accounts add-iam-policy-binding "$(account aws)" \
      --role=roles/iam.workloadIdentityUser \
      --member="principalSet://iam.googleapis.com/projects/$(number_of "$PROJECT")/locations/global/workloadIdentityPools/$pool/attribute.aws_role/$arn"
  done
  grant_topic requests "serviceAccount:$(account aws)" roles/pubsub.publisher
  waiter "serviceAccount:$(account aws)"
}

# Destroy: what is not there is not missed.

wanted() { [[ -z $ONLY || ,$ONLY, == *,$1,* ]]; }

delete() { # what describes it, then --, then what deletes it
  local look=()
  while [[ $1 != -- ]]; do
    look+=("$1")
    shift
  done
  shift
  [[ -n $DRY_RUN ]] || there "${look[@]}" || return 0
  google "$@"
}

destroy() {
  local who target source found names
  if wanted aws; then
    delete iam workload-identity-pools describe "$NAME-aws" --location=global -- \
      iam workload-identity-pools delete "$NAME-aws" --location=global
    delete iam service-accounts describe "$(account aws)" -- iam service-accounts delete "$(account aws)"
  fi
  if wanted ticks; then
    delete scheduler jobs describe "$NAME-ticks" --location="$REGION" -- \
      scheduler jobs delete "$NAME-ticks" --location="$REGION"
    for target in ${TARGETS//,/ }; do
      run gcloud logging sinks delete "$NAME-ended" --project="$target" --quiet || true
    done
  fi
  if wanted subscriptions; then
    found=$(listed subscriptions there "${SUBSCRIPTIONS[@]}")
    mapfile -t names <<<"$found"
    [[ -z $found ]] || google pubsub subscriptions delete "${names[@]}"
  fi
  for who in worker api; do
    ! wanted $who || delete run services describe "$NAME-$who" --region="$REGION" -- \
      run services delete "$NAME-$who" --region="$REGION"
  done
  ! wanted api || delete secrets describe "$NAME-callers" -- secrets delete "$NAME-callers"
  if wanted topics; then
    found=$(listed topics there "${TOPICS[@]}")
    mapfile -t names <<<"$found"
    [[ -z $found ]] || google pubsub topics delete "${names[@]}"
  fi
  if wanted people; then
    for member in ${WAITERS//,/ } ${AWS_ACCOUNT:+"serviceAccount:$(account aws)"}; do
      revoke_project "$WAITER_PROJECT" "$member" "projects/$WAITER_PROJECT/roles/${ROLE}Waiter"
    done
    run gcloud iam roles delete "${ROLE}Waiter" --project="$WAITER_PROJECT" --quiet || true
  fi
  if wanted roles; then
    for who in worker api; do
      revoke_project "$PROJECT" "serviceAccount:$(account $who)" "projects/$PROJECT/roles/${ROLE}Jobs"
      for target in ${TARGETS//,/ }; do
        revoke_project "$target" "serviceAccount:$(account $who)" "projects/$target/roles/${ROLE}Target"
        [[ -z $ALLOW_CANCEL ]] ||
          revoke_project "$target" "serviceAccount:$(account $who)" "projects/$target/roles/${ROLE}Cancel"
      done
      for source in ${SOURCES//,/ }; do
        revoke_project "$source" "serviceAccount:$(account $who)" "projects/$source/roles/${ROLE}Source"
      done
    done
    for source in ${SOURCES//,/ }; do
      for target in ${TARGETS//,/ }; do
        [[ $source == "$target" ]] || revoke_project "$source" \
          "serviceAccount:service-$(number_of "$target")@gcp-sa-aiplatform.iam.gserviceaccount.com" \
          roles/aiplatform.serviceAgent
      done
      run gcloud iam roles delete "${ROLE}Source" --project="$source" --quiet || true
    done
    for target in ${TARGETS//,/ }; do
      run gcloud iam roles delete "${ROLE}Target" --project="$target" --quiet || true
      [[ -z $ALLOW_CANCEL ]] || run gcloud iam roles delete "${ROLE}Cancel" --project="$target" --quiet || true
    done
    google iam roles delete "${ROLE}Jobs" || true
  fi
  if wanted accounts; then
    for who in worker api push; do
      delete iam service-accounts describe "$(account $who)" -- \
        iam service-accounts delete "$(account $who)"
    done
  fi
  if wanted store; then
    echo "The jobs are left in the Firestore database $NAME. To lose them too:" >&2
    echo "  gcloud firestore databases update --database=$NAME --no-delete-protection --project=$PROJECT" >&2
    echo "  gcloud firestore databases delete --database=$NAME --project=$PROJECT" >&2
  fi
}

if [[ -n $DESTROY ]]; then
  destroy
  exit 0
fi
for part in "${PARTS[@]}"; do
  ! wanted "$part" || "$part"
done
