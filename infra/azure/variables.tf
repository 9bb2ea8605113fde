variable "environment" {
  description = "Name of the environment, part of all names."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "The environment must be staging or production."
  }
}

variable "location" {
  description = "Azure region."
  type        = string
  default     = "westeurope"
}

variable "registry" {
  description = "Prefix of the images, for example ghcr.io/example."
  type        = string
}

variable "tag" {
  description = "Tag of the images, for example v1.2.3."
  type        = string
}

variable "database_sku" {
  description = "Size of PostgreSQL."
  type        = string
}

variable "database_storage_mb" {
  description = "Storage of PostgreSQL, in MB."
  type        = number
  default     = 32768
}

variable "is_highly_available" {
  description = "Whether PostgreSQL has a standby in another zone, and the service has two processes."
  type        = bool
}

variable "deployers" {
  description = "Object ids of the people and pipelines that may write the secrets."
  type        = set(string)
}
