# Every reply as a row, for whoever counts copies. An option: bigquery_replies.

locals {
  with_bigquery = var.bigquery_replies ? toset(["replies"]) : toset([])
}

resource "google_bigquery_dataset" "replies" {
  for_each                   = local.with_bigquery
  project                    = var.project
  dataset_id                 = replace(var.name, "-", "_")
  location                   = var.region
  delete_contents_on_destroy = false
  depends_on                 = [google_project_service.copier]
}

resource "google_bigquery_table" "replies" {
  for_each            = local.with_bigquery
  project             = var.project
  dataset_id          = google_bigquery_dataset.replies[each.key].dataset_id
  table_id            = "replies"
  deletion_protection = var.keep_on_destroy

  time_partitioning {
    type  = "DAY"
    field = "publish_time"
  }

  # As Pub/Sub writes a message with its metadata.
  schema = jsonencode([
    { name = "subscription_name", type = "STRING" },
    { name = "message_id", type = "STRING" },
    { name = "publish_time", type = "TIMESTAMP" },
    { name = "data", type = "JSON" },
    { name = "attributes", type = "JSON" },
  ])
}

resource "google_bigquery_table_iam_member" "agent" {
  for_each   = local.with_bigquery
  project    = var.project
  dataset_id = google_bigquery_dataset.replies[each.key].dataset_id
  table_id   = google_bigquery_table.replies[each.key].table_id
  role       = "roles/bigquery.dataEditor"
  member     = local.pubsub_agent
}

resource "google_pubsub_subscription" "bigquery" {
  for_each                   = local.with_bigquery
  name                       = "${var.name}-replies-to-bigquery"
  project                    = var.project
  topic                      = google_pubsub_topic.replies.id
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  bigquery_config {
    table          = "${var.project}.${google_bigquery_dataset.replies[each.key].dataset_id}.${google_bigquery_table.replies[each.key].table_id}"
    write_metadata = true
  }

  depends_on = [google_bigquery_table_iam_member.agent]
}
