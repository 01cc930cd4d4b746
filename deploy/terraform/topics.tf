resource "google_pubsub_topic" "requests" {
  name       = "${var.name}-requests"
  project    = var.project
  depends_on = [google_project_service.copier]
}

resource "google_pubsub_topic" "replies" {
  name       = "${var.name}-replies"
  project    = var.project
  depends_on = [google_project_service.copier]
}

resource "google_pubsub_topic" "dead_letters" {
  name       = "${var.name}-dead-letters"
  project    = var.project
  depends_on = [google_project_service.copier]
}

resource "google_pubsub_topic" "ticks" {
  name       = "${var.name}-ticks"
  project    = var.project
  depends_on = [google_project_service.copier]
}
