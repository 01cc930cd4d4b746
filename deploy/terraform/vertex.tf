# What worker and api may do with models, and how Vertex AI itself may read the sources.

locals {
  # Each service in each project.
  in_targets = { for pair in setproduct(keys(local.service_emails), var.target_projects) :
  "${pair[0]}/${pair[1]}" => { email = local.service_emails[pair[0]], project = pair[1] } }

  in_sources = { for pair in setproduct(keys(local.service_emails), var.source_projects) :
  "${pair[0]}/${pair[1]}" => { email = local.service_emails[pair[0]], project = pair[1] } }

  # Of each source and each other project that copies from it: who reads the source.
  agents_in_sources = { for pair in setproduct(var.source_projects, var.target_projects) :
    "${pair[0]}/${pair[1]}" => { source = pair[0], target = pair[1] }
  if pair[0] != pair[1] && !contains(keys(var.copy_accounts), pair[1]) }

  accounts_in_sources = { for pair in setproduct(var.source_projects, keys(var.copy_accounts)) :
    "${pair[0]}/${pair[1]}" => { source = pair[0], target = pair[1] }
  if contains(var.target_projects, pair[1]) }

  accounts_of_services = { for pair in setproduct(keys(local.service_emails), keys(var.copy_accounts)) :
    "${pair[0]}/${pair[1]}" => { email = local.service_emails[pair[0]], target = pair[1] }
  if contains(var.target_projects, pair[1]) }
}

# In a target: copy into it, and look at what came of it. Nothing is deleted or changed. By Google's page of
# permissions an upload's operation is read with aiplatform.models.get and cancelled with aiplatform.models.update;
# of a copy's it says nothing. So a cancel may be refused without allow_cancel, which is a right to change models.
resource "google_project_iam_custom_role" "target" {
  for_each    = toset(var.target_projects)
  project     = each.value
  role_id     = "${local.role_prefix}Target"
  title       = "Model copier: target"
  description = "Copy models into this project, and look at models and operations."
  permissions = [
    "aiplatform.models.get",
    "aiplatform.models.list",
    "aiplatform.models.upload",
    "aiplatform.operations.list",
  ]
}

resource "google_project_iam_member" "target" {
  for_each = local.in_targets
  project  = each.value.project
  role     = var.vertex_role != "" ? var.vertex_role : google_project_iam_custom_role.target[each.value.project].id
  member   = "serviceAccount:${each.value.email}"
}

resource "google_project_iam_custom_role" "cancel" {
  for_each    = var.allow_cancel ? toset(var.target_projects) : toset([])
  project     = each.value
  role_id     = "${local.role_prefix}Cancel"
  title       = "Model copier: cancel"
  description = "Cancel copies. Vertex AI has no narrower permission; this one may change models too."
  permissions = ["aiplatform.models.update"]
}

resource "google_project_iam_member" "cancel" {
  for_each = var.allow_cancel ? local.in_targets : {}
  project  = each.value.project
  role     = google_project_iam_custom_role.cancel[each.value.project].id
  member   = "serviceAccount:${each.value.email}"
}

# In a source: tell which version an alias means, before anything is asked.
resource "google_project_iam_custom_role" "source" {
  for_each    = toset(var.source_projects)
  project     = each.value
  role_id     = "${local.role_prefix}Source"
  title       = "Model copier: source"
  description = "Look at models."
  permissions = ["aiplatform.models.get"]
}

resource "google_project_iam_member" "source" {
  for_each = local.in_sources
  project  = each.value.project
  role     = google_project_iam_custom_role.source[each.value.project].id
  member   = "serviceAccount:${each.value.email}"
}

# Vertex AI reads the source as the target's service agent. This is wide: whoever may upload models in
# the target can then copy from the source, without the copier. copy_accounts is the narrow way.
resource "google_project_iam_member" "agents_in_sources" {
  for_each = local.agents_in_sources
  project  = each.value.source
  role     = "roles/aiplatform.serviceAgent"
  member   = local.vertex_agents[each.value.target]
}

resource "google_project_iam_custom_role" "export" {
  for_each    = length(var.copy_accounts) > 0 ? toset(var.source_projects) : toset([])
  project     = each.value
  role_id     = "${local.role_prefix}Export"
  title       = "Model copier: export"
  description = "Be copied from."
  permissions = ["aiplatform.models.export", "aiplatform.models.get"]
}

resource "google_project_iam_member" "accounts_in_sources" {
  for_each = local.accounts_in_sources
  project  = each.value.source
  role     = google_project_iam_custom_role.export[each.value.source].id
  member   = "serviceAccount:${var.copy_accounts[each.value.target]}"
}

resource "google_service_account_iam_member" "agents_as_accounts" {
  for_each           = { for project, account in var.copy_accounts : project => account if contains(var.target_projects, project) }
  service_account_id = "projects/${each.key}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.vertex_agents[each.key]
}

resource "google_service_account_iam_member" "services_as_accounts" {
  for_each           = local.accounts_of_services
  service_account_id = "projects/${each.value.target}/serviceAccounts/${var.copy_accounts[each.value.target]}"
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${each.value.email}"
}
