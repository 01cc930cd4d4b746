# What an operator decides. Required: project, source_projects, target_projects, image.

variable "project" {
  description = "Project of topics, subscriptions, worker and api; often the first target project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project should be a project id such as gemini-fine-tuning-target, not a number or a name."
  }
}

variable "region" {
  description = "Region of worker, api and Cloud Scheduler, and of the models unless a request says otherwise."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region should be a region such as us-central1, not a zone."
  }
}

variable "model_location" {
  description = "Where models are unless a request says otherwise: a region, or us or eu for tuned Gemini 3; empty: region."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z]+-[a-z]+[0-9]+|us|eu|global)?$", var.model_location))
    error_message = "model_location should be a region such as us-central1, or us, eu or global, not a zone."
  }
}

variable "name" {
  description = "What the name of everything begins with. A second copier in a project, for another trust domain, needs another."
  type        = string
  default     = "model-copy"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,15}[a-z0-9]$", var.name))
    error_message = "name should have 4 to 17 of a-z, 0-9 and -, first a letter, no - at the end."
  }
}

variable "source_projects" {
  description = "Projects that models may be copied from; the first is taken where a request names none."
  type        = list(string)

  validation {
    condition = length(var.source_projects) > 0 && alltrue([
      for each in var.source_projects : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", each))
    ])
    error_message = "source_projects should be a list of project ids, at least one."
  }
}

variable "target_projects" {
  description = "Projects that models may be copied to; the first is taken where a request names none."
  type        = list(string)

  validation {
    condition = length(var.target_projects) > 0 && alltrue([
      for each in var.target_projects : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", each))
    ])
    error_message = "target_projects should be a list of project ids, at least one."
  }
}

variable "image" {
  description = "Image of worker and api, by its digest, so that what runs is what was checked."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image should name a digest, as in REGION-docker.pkg.dev/PROJECT/REPOSITORY/model-copier@sha256:..."
  }
}

variable "copy_accounts" {
  description = "For each target project whose service agent should not read the sources: the service account, of that project, that copies instead. Requests then name it as custom_service_account."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for project, account in var.copy_accounts :
      endswith(account, "@${project}.iam.gserviceaccount.com")
    ])
    error_message = "copy_accounts should map a target project to a service account of that project: Vertex AI takes no other."
  }
}

variable "vertex_role" {
  description = "Role of worker and api in the target projects; empty: a custom role of what the copier calls. Set it to roles/aiplatform.user should Vertex AI ask for more."
  type        = string
  default     = ""

  validation {
    condition     = var.vertex_role == "" || can(regex("^(roles/aiplatform\\.|projects/|organizations/)", var.vertex_role))
    error_message = "vertex_role should be a role of Vertex AI (roles/aiplatform.user) or a custom one."
  }
}

variable "allow_cancel" {
  description = "Whether worker and api may cancel copies: aiplatform.models.update in the target projects, which may change models too. Without it a cancel that Vertex AI refuses is a warning in the outcome."
  type        = bool
  default     = false
}

variable "publishers" {
  description = "Who may ask for copies: members as IAM writes them (serviceAccount:..., group:..., principalSet://...)."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for each in var.publishers : can(regex("^(serviceAccount|user|group):.+@.+$|^principal(Set)?://.+$", each))
    ])
    error_message = "publishers should be serviceAccount:EMAIL, user:EMAIL, group:EMAIL, principal://... or principalSet://..., never everybody."
  }
}

variable "waiters" {
  description = "Who may wait for replies with a subscription of their own, in waiter_project."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for each in var.waiters : can(regex("^(serviceAccount|user|group):.+@.+$|^principal(Set)?://.+$", each))
    ])
    error_message = "waiters should be serviceAccount:EMAIL, user:EMAIL, group:EMAIL, principal://... or principalSet://..., never everybody."
  }
}

variable "waiter_project" {
  description = "Project that waiters, and machines on AWS, make their subscriptions in: another one than that of the topics. Pub/Sub cannot bound the right to read and delete subscriptions to one's own, so in the topics' project it would hold for requests and dead letters. Empty: nobody has it; readers of reply_subscriptions wait with these."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z][a-z0-9-]{4,28}[a-z0-9])?$", var.waiter_project))
    error_message = "waiter_project should be a project id."
  }

  validation {
    condition     = var.waiter_project != var.project
    error_message = "waiter_project should be another project than that of the topics: a waiter can delete every subscription there."
  }

  validation {
    condition = var.waiter_project != "" || (length(var.waiters) == 0 && (var.aws == null || anytrue([
      for each in var.reply_subscriptions :
      contains(each.readers, "serviceAccount:${var.name}-aws@${var.project}.iam.gserviceaccount.com")
    ])))
    error_message = "waiter_project is missing: waiters, and machines on AWS, wait in a project of their own; or leave waiters empty and name serviceAccount:NAME-aws@PROJECT.iam.gserviceaccount.com as a reader in reply_subscriptions."
  }
}

variable "operators" {
  description = "Who may see, replay and drop dead letters."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for each in var.operators : can(regex("^(serviceAccount|user|group):.+@.+$|^principal(Set)?://.+$", each))
    ])
    error_message = "operators should be serviceAccount:EMAIL, user:EMAIL, group:EMAIL, principal://... or principalSet://..., never everybody."
  }
}

variable "reply_subscriptions" {
  description = "Subscriptions to the replies that are always there: a name, who reads it, and a filter on attributes ('' for all)."
  type = map(object({
    readers = list(string)
    filter  = optional(string, "")
  }))
  default = {}

  validation {
    condition = alltrue(flatten([
      for each in var.reply_subscriptions : [
        for reader in each.readers : can(regex("^(serviceAccount|user|group):.+@.+$|^principal(Set)?://.+$", reader))
      ]
    ]))
    error_message = "readers should be serviceAccount:EMAIL, user:EMAIL, group:EMAIL, principal://... or principalSet://..., never everybody."
  }
}

variable "callers" {
  description = "Accounts that may call the api over REST, and the projects that each may name; empty: all that are allowed."
  type = list(object({
    account         = string
    source_projects = optional(list(string), [])
    target_projects = optional(list(string), [])
  }))
  default = []

  validation {
    condition = alltrue([
      for each in var.callers : can(regex("^[a-z0-9._%+-]+@[a-z0-9.-]+\\.gserviceaccount\\.com$", each.account))
    ])
    error_message = "account should be a service account's address, as ID tokens name it; a person's own token is for gcloud and opens nothing, so people impersonate one."
  }

  validation {
    condition     = length(distinct(var.callers[*].account)) == length(var.callers)
    error_message = "An account is there twice."
  }
}

variable "api" {
  description = "Whether the REST api is deployed too. It is reached from the internet, by callers alone."
  type        = bool
  default     = true
}

variable "audience" {
  description = "What tokens must be for: one word that stays the same whatever the services' URLs; empty: made of name and project."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^\\S{0,512}$", var.audience))
    error_message = "audience should be one word, such as https://model-copier.example."
  }
}

variable "more_audiences" {
  description = "Further URLs of the api that tokens may be for, such as the output api_url; each also with its endpoint's path."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for url in var.more_audiences : can(regex("^https://[^\\s,/]{1,255}$", url))])
    error_message = "more_audiences should be URLs without a path, such as https://model-copy-api-abc123-uc.a.run.app."
  }
}

variable "settings" {
  description = "Further settings of worker and api, by their names in the README (FOLLOW_SECONDS, WAIT_SECONDS, ...)."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for name in keys(var.settings) : contains([
        "CALL_TIMEOUT_SECONDS", "COPY_DEADLINE_SECONDS", "FOLLOW_SECONDS", "LOCATIONS", "MAX_SKEW_SECONDS",
        "MAX_UNFINISHED", "MAX_WAITS", "POLL_SECONDS", "READ_TIMEOUT_SECONDS", "READS_PER_MINUTE",
        "REQUESTS_PER_MINUTE", "REQUIRE_KMS_KEY", "STARTS_PER_MINUTE", "VISIBILITY_SECONDS", "WAIT_SECONDS",
      ], name)
    ])
    error_message = "settings may name CALL_TIMEOUT_SECONDS, COPY_DEADLINE_SECONDS, FOLLOW_SECONDS, LOCATIONS, MAX_SKEW_SECONDS, MAX_UNFINISHED, MAX_WAITS, POLL_SECONDS, READ_TIMEOUT_SECONDS, READS_PER_MINUTE, REQUESTS_PER_MINUTE, REQUIRE_KMS_KEY, STARTS_PER_MINUTE, VISIBILITY_SECONDS and WAIT_SECONDS; the others are set here."
  }
}

variable "max_instances" {
  description = "Most instances of worker and of api; each takes 1,000 requests at once."
  type        = number
  default     = 4

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances should be a whole number from 1 to 100."
  }
}

variable "firestore_location" {
  description = "Where the jobs are kept; empty: the region. It can never be changed."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z]+-[a-z]+[0-9]+|nam5|nam7|eur3)?$", var.firestore_location))
    error_message = "firestore_location should be a region, nam5, nam7 or eur3."
  }
}

variable "aws" {
  description = "AWS account and the roles in it, by their ARNs, that may publish without a key; null: none."
  type = object({
    account   = string
    role_arns = list(string)
  })
  default = null

  validation {
    condition     = var.aws == null || can(regex("^[0-9]{12}$", var.aws.account))
    error_message = "aws.account should have 12 digits."
  }

  validation {
    condition = var.aws == null || (length(try(var.aws.role_arns, [])) > 0 && alltrue([
      for arn in try(var.aws.role_arns, []) :
      can(regex("^arn:aws[a-z-]*:iam::${var.aws.account}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]+$", arn))
    ]))
    error_message = "aws.role_arns should be exact ARNs of roles of that account, as arn:aws:iam::123456789012:role/pipeline, at least one and without *."
  }
}

variable "alert_channels" {
  description = "Notification channels of Cloud Monitoring, by their full names, that alerts go to; none: alerts show in the console only."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for each in var.alert_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", each))
    ])
    error_message = "alert_channels should be projects/PROJECT/notificationChannels/NUMBER."
  }
}

variable "bigquery_replies" {
  description = "Whether every reply is written to a table of BigQuery as well."
  type        = bool
  default     = false
}

variable "keep_on_destroy" {
  description = "Whether destroy leaves the jobs and the table of replies alone. Set it to false, apply, then destroy, to lose them."
  type        = bool
  default     = true
}
