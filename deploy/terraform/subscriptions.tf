# What is pushed to the worker, and what a person pulls.
#
# 31 days (2678400 s) is the longest that Pub/Sub keeps a message; what was forgotten over a
# holiday is still there. Without an empty ttl a subscription that nobody uses is deleted after 31 days.

locals {
  push = {
    account  = google_service_account.push.email
    audience = local.audience
  }
}

resource "google_pubsub_subscription" "requests" {
  name                       = "${var.name}-requests"
  project                    = var.project
  topic                      = google_pubsub_topic.requests.id
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # With this backoff 100 attempts last about 15 hours. What is given up then is answered by the worker.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = 100
  }

  push_config {
    push_endpoint = "${google_cloud_run_v2_service.worker.uri}/pubsub/requests"

    oidc_token {
      service_account_email = local.push.account
      audience              = local.push.audience
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.push]
}

# A tick follows young copies for FOLLOW_SECONDS; an old one is worth nothing.
resource "google_pubsub_subscription" "ticks" {
  name                       = "${var.name}-ticks"
  project                    = var.project
  topic                      = google_pubsub_topic.ticks.id
  ack_deadline_seconds       = 600
  message_retention_duration = "600s"

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  push_config {
    push_endpoint = "${google_cloud_run_v2_service.worker.uri}/pubsub/ticks"

    oidc_token {
      service_account_email = local.push.account
      audience              = local.push.audience
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.push]
}

# What Pub/Sub gives up itself: nobody has answered it yet.
resource "google_pubsub_subscription" "forwarded" {
  name                       = "${var.name}-forwarded"
  project                    = var.project
  topic                      = google_pubsub_topic.dead_letters.id
  filter                     = "attributes:CloudPubSubDeadLetterSourceSubscription"
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  push_config {
    push_endpoint = "${google_cloud_run_v2_service.worker.uri}/pubsub/dead-letters"

    oidc_token {
      service_account_email = local.push.account
      audience              = local.push.audience
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.push]
}

# What `model-copy dead-letters` reads.
resource "google_pubsub_subscription" "dead_letters" {
  name    = "${var.name}-dead-letters"
  project = var.project
  topic   = google_pubsub_topic.dead_letters.id
  # As short as may be: so long a letter is hidden whose reader is killed at once.
  ack_deadline_seconds       = 10
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

# What `model-copy watch --subscription` reads.
resource "google_pubsub_subscription" "replies" {
  for_each                   = var.reply_subscriptions
  name                       = each.key
  project                    = var.project
  topic                      = google_pubsub_topic.replies.id
  filter                     = each.value.filter
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}
