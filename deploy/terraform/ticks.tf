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
# not at the next poll. Google documents no list of these names; this one is by analogy with UploadModel.
# Should it differ, no tick comes from here, and the outcome is told within a minute all the same.
resource "google_logging_project_sink" "ended" {
  for_each    = toset(var.target_projects)
  project     = each.value
  name        = "${var.name}-ended"
  destination = "pubsub.googleapis.com/${google_pubsub_topic.ticks.id}"
  filter      = <<-EOT
    log_id("cloudaudit.googleapis.com/activity")
    protoPayload.serviceName = "aiplatform.googleapis.com"
    protoPayload.methodName : "ModelService.CopyModel"
    operation.last = true
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
