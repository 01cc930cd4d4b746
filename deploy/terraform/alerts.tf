# What a person should hear of. Each says what to do.

resource "google_monitoring_alert_policy" "stuck" {
  project               = var.project
  display_name          = "${var.name}: a request waits for more than 10 minutes"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.alert_channels

  conditions {
    display_name = "oldest unacknowledged request"

    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${google_pubsub_subscription.requests.name}\" AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      comparison      = "COMPARISON_GT"
      threshold_value = 600
      duration        = "120s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "The worker does not acknowledge. Nothing is lost: Pub/Sub delivers it again for 15 hours. Look at the worker's log for `unavailable` and `bug`; `model-copy doctor` tells what is set up wrongly."
  }
}

resource "google_monitoring_alert_policy" "dead_letters" {
  project               = var.project
  display_name          = "${var.name}: there are dead letters"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.alert_channels

  conditions {
    display_name = "dead letters"

    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${google_pubsub_subscription.dead_letters.name}\" AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "`model-copy dead-letters list --summary`, then docs/runbook-dead-letters.md. They are kept for 31 days."
  }
}

# A copy may take COPY_DEADLINE_SECONDS (two hours) and a quarter more. Requests that came before that, and
# no outcome of any since: the engine stands still.
resource "google_monitoring_alert_policy" "silent" {
  project               = var.project
  display_name          = "${var.name}: requests came, and nothing was told"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.alert_channels

  conditions {
    display_name = "requests without outcomes"

    condition_prometheus_query_language {
      query               = <<-EOT
        sum(increase(pubsub_googleapis_com:topic_send_message_operation_count{monitored_resource="pubsub_topic",topic_id="${google_pubsub_topic.requests.name}"}[30m] offset 150m)) > 0
        unless
        sum(increase(pubsub_googleapis_com:topic_send_message_operation_count{monitored_resource="pubsub_topic",topic_id="${google_pubsub_topic.replies.name}"}[3h])) > 0
      EOT
      duration            = "0s"
      evaluation_interval = "300s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Are there ticks (Cloud Scheduler, the job ${var.name}-ticks)? Does the worker's log say `tick`? `/ready` of the api tells whether store and topics can be reached."
  }
}

# Ticks come, and yet what is due is not moved on: the worker says so itself.
resource "google_monitoring_alert_policy" "late" {
  project               = var.project
  display_name          = "${var.name}: jobs are late, or put off again and again"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.alert_channels

  conditions {
    display_name = "due for more than three minutes, or put off for more than one"

    condition_matched_log {
      filter = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.name}-worker\" AND (jsonPayload.behind > 180 OR jsonPayload.message = \"put_off\")"
    }
  }

  alert_strategy {
    auto_close = "86400s"

    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "`why` of a `put_off` line names what answers \"later\": Vertex AI, the store or a topic. See docs/operations.md."
  }
}

resource "google_monitoring_alert_policy" "bugs" {
  project               = var.project
  display_name          = "${var.name}: an error was logged"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.alert_channels

  conditions {
    display_name = "errors of worker and api"

    condition_matched_log {
      filter = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = (\"${var.name}-worker\" OR \"${var.name}-api\") AND severity >= ERROR"
    }
  }

  alert_strategy {
    auto_close = "86400s"

    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "`bug` has a traceback; `unreadable_record` was written by a newer service: finish the upgrade, or go back to it."
  }
}
