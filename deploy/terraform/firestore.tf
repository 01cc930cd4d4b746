# Where jobs are kept. Every field of a Firestore document is indexed unless it is said otherwise, and an
# index on a rising value takes 500 writes a second: so all fields are exempt but those that are asked for.

locals {
  # As the adapter has them, to which a test compares them: adapters/firestore_documents.py.
  collections = ["jobs", "destinations", "queues"]
  indexed = {
    due_at     = "ASCENDING"
    listed     = "DESCENDING"
    marks      = "CONTAINS"
    unfinished = "DESCENDING"
    waits      = "ASCENDING"
  }
  expiry_field = "expires_at"
}

resource "google_firestore_database" "jobs" {
  project                           = var.project
  name                              = var.name
  location_id                       = var.firestore_location != "" ? var.firestore_location : var.region
  type                              = "FIRESTORE_NATIVE"
  concurrency_mode                  = "OPTIMISTIC"
  app_engine_integration_mode       = "DISABLED"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.keep_on_destroy ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.keep_on_destroy ? "ABANDON" : "DELETE"

  depends_on = [google_project_service.copier]
}

resource "google_firestore_field" "exempt" {
  for_each   = toset(local.collections)
  project    = var.project
  database   = google_firestore_database.jobs.name
  collection = "${var.name}-${each.value}"
  field      = "*"

  index_config {}
}

resource "google_firestore_field" "indexed" {
  for_each   = local.indexed
  project    = var.project
  database   = google_firestore_database.jobs.name
  collection = "${var.name}-jobs"
  field      = each.key

  index_config {
    indexes {
      order        = each.value == "CONTAINS" ? null : each.value
      array_config = each.value == "CONTAINS" ? each.value : null
      query_scope  = "COLLECTION"
    }
  }
}

# A record outlives whatever can be replayed; then Firestore deletes it, within a day or so.
resource "google_firestore_field" "expiry" {
  project    = var.project
  database   = google_firestore_database.jobs.name
  collection = "${var.name}-jobs"
  field      = local.expiry_field

  ttl_config {}

  index_config {}
}
