output "publisher_config" {
  description = "~/.config/model-copy/config.toml of whoever publishes: terraform output -raw publisher_config"
  value = join("\n", concat(
    [
      "project = ${jsonencode(local.waiter_project)}",
      "request_topic = ${jsonencode(google_pubsub_topic.requests.id)}",
      "reply_topic = ${jsonencode(google_pubsub_topic.replies.id)}",
    ],
    local.first_account != "" ? ["custom_service_account = ${jsonencode(local.first_account)}"] : [],
    [""],
  ))
}

output "publisher_env" {
  description = "The same as environment variables: terraform output -raw publisher_env"
  value = join("\n", [
    "export MODEL_COPY_PROJECT=${local.waiter_project}",
    "export MODEL_COPY_REQUEST_TOPIC=${google_pubsub_topic.requests.id}",
    "export MODEL_COPY_REPLY_TOPIC=${google_pubsub_topic.replies.id}",
    "export MODEL_COPY_REQUEST_SUBSCRIPTION=${google_pubsub_subscription.requests.id}",
    "export MODEL_COPY_DEAD_LETTER_TOPIC=${google_pubsub_topic.dead_letters.id}",
    "export MODEL_COPY_DEAD_LETTER_SUBSCRIPTION=${google_pubsub_subscription.dead_letters.id}",
    "",
  ])
}

output "aws_credentials" {
  description = "Credential configuration for machines on AWS; it holds no secret: terraform output -raw aws_credentials"
  value = var.aws == null ? "" : templatefile("${path.module}/../aws/credentials.json", {
    provider = google_iam_workload_identity_pool_provider.aws["publisher"].name
    account  = google_service_account.aws["publisher"].email
  })
}

output "api_url" {
  description = "Where the api is. Tokens may be for this once it is listed in more_audiences."
  value       = var.api ? google_cloud_run_v2_service.api["api"].uri : ""
}

output "api_audience" {
  description = "What the tokens of callers should be for: it stays the same whatever the URLs."
  value       = local.audience
}

output "api_audiences" {
  description = "All that the tokens of callers may be for."
  value       = local.audiences
}

output "worker_url" {
  description = "Where Pub/Sub pushes to; nobody else reaches it."
  value       = google_cloud_run_v2_service.worker.uri
}
