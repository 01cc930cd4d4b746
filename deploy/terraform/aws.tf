# Machines on AWS publish as their role, without a key. The provider admits the roles that are named,
# by their exact ARNs, and no other role of the account.

locals {
  with_aws = var.aws == null ? toset([]) : toset(["publisher"])
  # A role's session is told as arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION: the last part of the
  # role's path is its name.
  aws_roles = [
    for arn in try(var.aws.role_arns, []) :
    "${replace(split(":role/", arn)[0], ":iam:", ":sts:")}:assumed-role/${reverse(split("/", arn))[0]}"
  ]
}

resource "google_iam_workload_identity_pool" "aws" {
  for_each                  = local.with_aws
  project                   = var.project
  workload_identity_pool_id = "${var.name}-aws"
  display_name              = "Model copier: AWS"
  depends_on                = [google_project_service.copier]
}

resource "google_iam_workload_identity_pool_provider" "aws" {
  for_each                           = local.with_aws
  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.aws[each.key].workload_identity_pool_id
  workload_identity_pool_provider_id = "roles"
  display_name                       = "Model copier: roles"
  attribute_mapping = {
    "google.subject"     = "assertion.arn"
    "attribute.aws_role" = "assertion.arn.extract('{account_arn}assumed-role/') + 'assumed-role/' + assertion.arn.extract('assumed-role/{role_name}/')"
  }
  attribute_condition = "attribute.aws_role in ${jsonencode(local.aws_roles)}"

  aws {
    account_id = var.aws.account
  }
}

resource "google_service_account" "aws" {
  for_each     = local.with_aws
  project      = var.project
  account_id   = "${var.name}-aws"
  display_name = "Model copier: publisher on AWS"
  depends_on   = [google_project_service.copier]
}

resource "google_service_account_iam_member" "aws" {
  for_each           = toset(local.aws_roles)
  service_account_id = google_service_account.aws["publisher"].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.aws["publisher"].name}/attribute.aws_role/${each.value}"
}
