# What wakes the worker, besides itself: the clock, and Vertex AI's audit log.

resource "google_cloud_scheduler_job" "ticks" {
  project     = var.project
  region      = var.region
  name        = "${var.name}-ticks"
  description = "Has the worker look at all copies that are due."
  schedule    = "* * * * *"
  time_zone   = "Etc/UTC"

  pubsub_target {
    topic_name = google_pubsub_topic.ticks.id
    data       = base64encode("{}")
  }

  depends_on = [google_project_service.copier]
}

# A finished CopyModel is written to the audit log of the project that it was copied to: told at once,
# not at the next poll. Google's catalogue of audit methods has google.cloud.aiplatform.v1.ModelService.CopyModel
# and, for the console, google.cloud.aiplatform.ui.ModelService.CopyModel; the colon matches both. An entry may
# carry no marks of first and last: only one that says it is the first alone is left out.
resource "google_logging_project_sink" "ended" {
  for_each    = toset(var.target_projects)
  project     = each.value
  name        = "${var.name}-ended"
  destination = "pubsub.googleapis.com/${google_pubsub_topic.ticks.id}"
  filter      = <<-EOT
    log_id("cloudaudit.googleapis.com/activity")
    protoPayload.serviceName = "aiplatform.googleapis.com"
    protoPayload.methodName : "ModelService.CopyModel"
    NOT (operation.first = true AND NOT operation.last = true)
  EOT

  unique_writer_identity = true
}

resource "google_pubsub_topic_iam_member" "sinks" {
  for_each = google_logging_project_sink.ended
  project  = var.project
  topic    = google_pubsub_topic.ticks.name
  role     = "roles/pubsub.publisher"
  member   = each.value.writer_identity
}
