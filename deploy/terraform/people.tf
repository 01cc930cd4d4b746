# Who asks, who waits, who mends. Each grant is known by its member: by its place in the list, taking one
# out would move the others, and Terraform might take away the grant that it has just made.

locals {
  waiter_project = var.waiter_project != "" ? var.waiter_project : var.project
  aws_publisher  = { for each in local.with_aws : "aws" => "serviceAccount:${google_service_account.aws[each].email}" }
  publishers     = merge({ for member in var.publishers : member => member }, local.aws_publisher)
  # Nobody in the topics' project: there they could delete the subscription to the requests.
  waiters = var.waiter_project != "" ? merge({ for member in var.waiters : member => member }, local.aws_publisher) : {}
}

resource "google_pubsub_topic_iam_member" "publishers" {
  for_each = local.publishers
  project  = var.project
  topic    = google_pubsub_topic.requests.name
  role     = "roles/pubsub.publisher"
  member   = each.value
}

# A waiter makes a subscription, reads it, deletes it. roles/pubsub.editor would also let it publish.
resource "google_project_iam_custom_role" "waiter" {
  project     = local.waiter_project
  role_id     = "${local.role_prefix}Waiter"
  title       = "Model copier: waiter"
  description = "Make, read and delete subscriptions."
  permissions = [
    "pubsub.subscriptions.consume",
    "pubsub.subscriptions.create",
    "pubsub.subscriptions.delete",
    "pubsub.subscriptions.get",
  ]
}

resource "google_project_iam_member" "waiters" {
  for_each = local.waiters
  project  = local.waiter_project
  role     = google_project_iam_custom_role.waiter.id
  member   = each.value
}

resource "google_pubsub_topic_iam_member" "waiters" {
  for_each = local.waiters
  project  = var.project
  topic    = google_pubsub_topic.replies.name
  role     = "roles/pubsub.subscriber"
  member   = each.value
}

resource "google_pubsub_subscription_iam_member" "readers" {
  for_each = {
    for pair in flatten([
      for name, each in var.reply_subscriptions : [
        for reader in each.readers : { key = "${name}/${reader}", name = name, reader = reader }
      ]
    ]) : pair.key => pair
  }
  project      = var.project
  subscription = google_pubsub_subscription.replies[each.value.name].name
  role         = "roles/pubsub.subscriber"
  member       = each.value.reader
  depends_on   = [google_service_account.aws] # one of the readers, where machines on AWS wait with it
}

# An operator reads letters, publishes them again as requests, and restores dropped ones.
resource "google_pubsub_subscription_iam_member" "operators" {
  for_each     = toset(var.operators)
  project      = var.project
  subscription = google_pubsub_subscription.dead_letters.name
  role         = "roles/pubsub.subscriber"
  member       = each.value
}

resource "google_pubsub_topic_iam_member" "operators_replay" {
  for_each = toset(var.operators)
  project  = var.project
  topic    = google_pubsub_topic.requests.name
  role     = "roles/pubsub.publisher"
  member   = each.value
}

resource "google_pubsub_topic_iam_member" "operators_restore" {
  for_each = toset(var.operators)
  project  = var.project
  topic    = google_pubsub_topic.dead_letters.name
  role     = "roles/pubsub.publisher"
  member   = each.value
}
