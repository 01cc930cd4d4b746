# The Google services that are called. Taking the copier out leaves them on: others may use them.

resource "google_project_service" "copier" {
  for_each = toset([
    "bigquery.googleapis.com",
    "cloudscheduler.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "sts.googleapis.com",
  ])
  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

resource "google_project_service" "target" {
  for_each           = toset(var.target_projects)
  project            = each.value
  service            = "aiplatform.googleapis.com"
  disable_on_destroy = false
}
