# What Pub/Sub's own service agent needs. Without the two dead-letter grants Pub/Sub neither counts
# attempts nor forwards anything, and says so nowhere.

resource "google_pubsub_topic_iam_member" "agent_forwards" {
  project = var.project
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "agent_forwards" {
  project      = var.project
  subscription = google_pubsub_subscription.requests.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

# To sign the tokens of pushes.
resource "google_service_account_iam_member" "agent_pushes" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
}
