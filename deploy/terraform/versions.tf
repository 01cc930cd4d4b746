# The provider's version is the one whose facts `make check-deploy` compares with.
terraform {
  required_version = ">= 1.9" # rules that compare variables

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
