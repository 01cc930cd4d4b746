"""What is in ``deploy/``, checked without Google and without Terraform: ``make check-deploy``."""
