# REST, for callers with a token: Cloud Run lets in the accounts of `callers` and nobody else, and the
# service reads from the same list which projects each may name.

locals {
  callers_file = join("\n", [
    for each in var.callers : join("\n", concat(
      ["[[caller]]", "account = ${jsonencode(each.account)}"],
      length(each.source_projects) > 0 ? ["source_projects = ${jsonencode(each.source_projects)}"] : [],
      length(each.target_projects) > 0 ? ["target_projects = ${jsonencode(each.target_projects)}"] : [],
      [""],
    ))
  ])
  with_callers = var.api && length(var.callers) > 0 ? toset(["callers"]) : toset([])
}

# Not secret, but the one kind of file that Cloud Run mounts.
resource "google_secret_manager_secret" "callers" {
  for_each  = local.with_callers
  project   = var.project
  secret_id = "${var.name}-callers"

  replication {
    auto {}
  }

  depends_on = [google_project_service.copier]
}

resource "google_secret_manager_secret_version" "callers" {
  for_each    = local.with_callers
  secret      = google_secret_manager_secret.callers[each.key].id
  secret_data = local.callers_file
}

resource "google_secret_manager_secret_iam_member" "callers" {
  for_each  = local.with_callers
  project   = var.project
  secret_id = google_secret_manager_secret.callers[each.key].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.api.email}"
}

resource "google_cloud_run_v2_service" "api" {
  for_each            = local.api_is_there
  project             = var.project
  name                = "${var.name}-api"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  custom_audiences    = local.audiences
  deletion_protection = false

  template {
    service_account                  = google_service_account.api.email
    max_instance_request_concurrency = 1000
    # Cloud Run's longest, and a little more than the longest WAIT_SECONDS (3,540): a caller is told
    # of a copy of an hour in one call.
    timeout = "3600s"

    scaling {
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      dynamic "env" {
        for_each = merge(
          local.settings,
          { FUNCTION_TARGET = "api", AUDIENCE = join(",", local.audiences) },
          length(local.with_callers) > 0 ? { CALLERS_FILE = "/callers/callers.toml" } : {},
        )
        content {
          name  = env.key
          value = env.value
        }
      }

      resources {
        limits            = { cpu = "1", memory = "1Gi" }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      # Builds the application, so that the first call need not wait for it.
      startup_probe {
        timeout_seconds   = 10
        period_seconds    = 10
        failure_threshold = 6

        http_get {
          path = "/health"
        }
      }

      dynamic "volume_mounts" {
        for_each = local.with_callers
        content {
          name       = "callers"
          mount_path = "/callers"
        }
      }
    }

    dynamic "volumes" {
      for_each = local.with_callers
      content {
        name = "callers"

        secret {
          secret = google_secret_manager_secret.callers["callers"].secret_id

          items {
            # By number: other callers are another revision, read at its start.
            version = google_secret_manager_secret_version.callers["callers"].version
            path    = "callers.toml"
          }
        }
      }
    }
  }

  depends_on = [google_project_iam_member.jobs, google_secret_manager_secret_iam_member.callers]
}

resource "google_cloud_run_v2_service_iam_member" "callers" {
  for_each = var.api ? toset(var.callers[*].account) : toset([])
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.api["api"].name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${each.value}"
}
