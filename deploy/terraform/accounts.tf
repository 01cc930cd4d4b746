# Who the services are, and what they may do in the copier's own project.

resource "google_service_account" "worker" {
  project      = var.project
  account_id   = "${var.name}-worker"
  display_name = "Model copier: worker"
  depends_on   = [google_project_service.copier]
}

resource "google_service_account" "api" {
  project      = var.project
  account_id   = "${var.name}-api"
  display_name = "Model copier: REST api"
  depends_on   = [google_project_service.copier]
}

resource "google_service_account" "push" {
  project      = var.project
  account_id   = "${var.name}-push"
  display_name = "Model copier: whom Pub/Sub pushes as"
  depends_on   = [google_project_service.copier]
}

# Both announce outcomes, write letters and wake the worker. Neither may publish requests.
resource "google_pubsub_topic_iam_member" "service_replies" {
  for_each = local.service_emails
  project  = var.project
  topic    = google_pubsub_topic.replies.name
  role     = "roles/pubsub.publisher"
  member   = "serviceAccount:${each.value}"
}

resource "google_pubsub_topic_iam_member" "service_dead_letters" {
  for_each = local.service_emails
  project  = var.project
  topic    = google_pubsub_topic.dead_letters.name
  role     = "roles/pubsub.publisher"
  member   = "serviceAccount:${each.value}"
}

resource "google_pubsub_topic_iam_member" "service_ticks" {
  for_each = local.service_emails
  project  = var.project
  topic    = google_pubsub_topic.ticks.name
  role     = "roles/pubsub.publisher"
  member   = "serviceAccount:${each.value}"
}

# roles/datastore.user reads every database of the project; this reaches the one of the jobs.
resource "google_project_iam_custom_role" "jobs" {
  project     = var.project
  role_id     = "${local.role_prefix}Jobs"
  title       = "Model copier: jobs"
  description = "Read and write documents."
  permissions = [
    "datastore.databases.get",
    "datastore.entities.allocateIds",
    "datastore.entities.create",
    "datastore.entities.delete",
    "datastore.entities.get",
    "datastore.entities.list",
    "datastore.entities.update",
  ]
}

resource "google_project_iam_member" "jobs" {
  for_each = local.service_emails
  project  = var.project
  role     = google_project_iam_custom_role.jobs.id
  member   = "serviceAccount:${each.value}"

  condition {
    title       = "jobs only"
    description = "The database of the copier's jobs and no other."
    expression  = "resource.name == \"projects/${var.project}/databases/${google_firestore_database.jobs.name}\""
  }
}
