# What several files need: names, projects, the settings of the service.

data "google_project" "copier" {
  project_id = var.project

  depends_on = [google_project_service.copier]
}

data "google_project" "target" {
  for_each   = toset(var.target_projects)
  project_id = each.value

  depends_on = [google_project_service.target]
}

data "google_project" "source" {
  for_each   = toset(var.source_projects)
  project_id = each.value
}

locals {
  audience = var.audience != "" ? var.audience : "https://${var.name}.${var.project}.example"

  # Google's samples mint tokens for the URL that they call, with or without its path. This is the URL
  # that can be told before the service is there; its other one goes into var.more_audiences.
  api_urls  = var.api ? ["https://${var.name}-api-${data.google_project.copier.number}.${var.region}.run.app"] : []
  endpoints = flatten([for url in concat(local.api_urls, var.more_audiences) : [url, "${url}/v1/models/copy"]])
  audiences = distinct(concat([local.audience], local.endpoints))

  # Roles have no hyphens.
  role_prefix = replace(title(replace(var.name, "-", " ")), " ", "")

  pubsub_agent   = "serviceAccount:service-${data.google_project.copier.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  vertex_agents  = { for project, found in data.google_project.target : project => "serviceAccount:service-${found.number}@gcp-sa-aiplatform.iam.gserviceaccount.com" }
  copy_accounts  = [for project in var.target_projects : var.copy_accounts[project] if contains(keys(var.copy_accounts), project)]
  first_account  = lookup(var.copy_accounts, var.target_projects[0], "")
  api_is_there   = var.api ? toset(["api"]) : toset([])
  service_emails = { worker = google_service_account.worker.email, api = google_service_account.api.email }

  settings = merge(var.settings, {
    SOURCE_PROJECT = var.source_projects[0]
    TARGET_PROJECT = var.target_projects[0]
    # With their numbers: Vertex AI names projects by either, and requests may too.
    ALLOWED_SOURCE_PROJECTS = join(",", [for project in var.source_projects : "${project}=${data.google_project.source[project].number}"])
    ALLOWED_TARGET_PROJECTS = join(",", [for project in var.target_projects : "${project}=${data.google_project.target[project].number}"])
    LOCATION                = var.model_location != "" ? var.model_location : var.region
    PUBSUB_PROJECT          = var.project
    REQUEST_TOPIC           = google_pubsub_topic.requests.name
    REPLY_TOPIC             = google_pubsub_topic.replies.name
    DEAD_LETTER_TOPIC       = google_pubsub_topic.dead_letters.name
    TICK_TOPIC              = google_pubsub_topic.ticks.name
    STORE                   = "firestore://${var.project}/${google_firestore_database.jobs.name}?collection=${var.name}"
    AUDIENCE                = local.audience
    PUSH_ACCOUNT            = google_service_account.push.email
    # Cloud Run checks the signature and takes it off. Nobody gets past it: see worker.tf, api.tf.
    TOKEN_CHECKS = "trust-cloud-run"
    }, length(local.copy_accounts) > 0 ? { ALLOWED_SERVICE_ACCOUNTS = join(",", local.copy_accounts) } : {}
  )
}
