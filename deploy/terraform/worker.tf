# What Pub/Sub pushes to. Nobody else reaches it: internal ingress admits Pub/Sub of this project,
# and only the push account may invoke it.

resource "google_cloud_run_v2_service" "worker" {
  project             = var.project
  name                = "${var.name}-worker"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  custom_audiences    = [local.audience]
  deletion_protection = false

  template {
    service_account                  = google_service_account.worker.email
    max_instance_request_concurrency = 1000
    # A tick's ack deadline.
    timeout = "600s"

    scaling {
      max_instance_count = var.max_instances
    }

    # No probe: that it listens is enough. Settings are read first, and a wrong one ends the start.
    containers {
      image = var.image

      dynamic "env" {
        for_each = merge(local.settings, { FUNCTION_TARGET = "worker" })
        content {
          name  = env.key
          value = env.value
        }
      }

      resources {
        limits = { cpu = "1", memory = "1Gi" }
        # CPU while a request is open, and full speed at the start.
        cpu_idle          = true
        startup_cpu_boost = true
      }
    }
  }

  depends_on = [google_project_iam_member.jobs]
}

resource "google_cloud_run_v2_service_iam_member" "push" {
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.worker.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${google_service_account.push.email}"
}
