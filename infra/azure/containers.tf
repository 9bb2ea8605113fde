resource "azurerm_log_analytics_workspace" "platform" {
  name                = local.name
  resource_group_name = azurerm_resource_group.platform.name
  location            = var.location
  retention_in_days   = 90
  tags                = local.tags
}

resource "azurerm_container_app_environment" "platform" {
  name                       = local.name
  resource_group_name        = azurerm_resource_group.platform.name
  location                   = var.location
  infrastructure_subnet_id   = azurerm_subnet.containers.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.platform.id
  tags                       = local.tags

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }
}

locals {
  # Only the service is reachable from outside the environment. Dagster's runs are processes in `code`.
  apps = {
    code      = { identity = "pipeline", port = 4000, transport = "tcp", cpu = 2, memory = "4Gi", processes = 1 }
    daemon    = { identity = "pipeline", port = null, transport = null, cpu = 0.5, memory = "1Gi", processes = 1 }
    mlflow    = { identity = "pipeline", port = 5000, transport = "http", cpu = 0.5, memory = "1Gi", processes = 1 }
    service   = { identity = "service", port = 8000, transport = "http", cpu = 0.5, memory = "1Gi", processes = var.is_highly_available ? 2 : 1 }
    webserver = { identity = "pipeline", port = 3000, transport = "http", cpu = 0.5, memory = "1Gi", processes = 1 }
  }
  variables = {
    PLATFORM_ENV                 = "production"
    PLATFORM_SOURCES             = "live"
    PLATFORM_AUTOMATION          = "on"
    PLATFORM_LAKE_URI            = "abfss://lake@${azurerm_storage_account.lake.name}.dfs.core.windows.net/platform"
    PLATFORM_MLFLOW_TRACKING_URI = "http://mlflow"
    AZURE_STORAGE_ACCOUNT_NAME   = azurerm_storage_account.lake.name
  }
}

resource "azurerm_container_app" "platform" {
  for_each = local.apps

  name                         = each.key
  resource_group_name          = azurerm_resource_group.platform.name
  container_app_environment_id = azurerm_container_app_environment.platform.id
  revision_mode                = "Single"
  workload_profile_name        = "Consumption"
  tags                         = local.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.platform[each.value.identity].id]
  }

  secret {
    name                = "database-url"
    identity            = azurerm_user_assigned_identity.platform[each.value.identity].id
    key_vault_secret_id = "${azurerm_key_vault.platform.vault_uri}secrets/${each.key == "mlflow" ? "mlflow-" : ""}database-url"
  }

  dynamic "ingress" {
    for_each = each.value.port == null ? [] : [1]

    content {
      external_enabled = each.key == "service"
      target_port      = each.value.port
      exposed_port     = each.value.transport == "tcp" ? each.value.port : null
      transport        = each.value.transport

      traffic_weight {
        latest_revision = true
        percentage      = 100
      }
    }
  }

  template {
    min_replicas = each.value.processes
    max_replicas = each.value.processes

    container {
      name   = each.key
      image  = "${var.registry}/platform-assets-${each.key}:${var.tag}"
      cpu    = each.value.cpu
      memory = each.value.memory

      env {
        name        = each.key == "mlflow" ? "MLFLOW_BACKEND_STORE_URI" : "PLATFORM_DATABASE_URL"
        secret_name = "database-url"
      }

      env {
        name  = "AZURE_CLIENT_ID"
        value = azurerm_user_assigned_identity.platform[each.value.identity].client_id
      }

      dynamic "env" {
        for_each = local.variables

        content {
          name  = env.key
          value = env.value
        }
      }

      # A revision that does not become ready gets no requests. The previous revision keeps serving.
      dynamic "readiness_probe" {
        for_each = each.key == "service" ? [1] : []

        content {
          transport = "HTTP"
          port      = each.value.port
          path      = "/health/ready"
        }
      }
    }
  }
}

# A deployment starts this job before it updates the apps.
resource "azurerm_container_app_job" "migrate" {
  name                         = "migrate"
  resource_group_name          = azurerm_resource_group.platform.name
  location                     = var.location
  container_app_environment_id = azurerm_container_app_environment.platform.id
  replica_timeout_in_seconds   = 900
  replica_retry_limit          = 0
  workload_profile_name        = "Consumption"
  tags                         = local.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.platform["migrate"].id]
  }

  dynamic "secret" {
    for_each = toset(["database-url", "owner-database-url"])

    content {
      name                = secret.key
      identity            = azurerm_user_assigned_identity.platform["migrate"].id
      key_vault_secret_id = "${azurerm_key_vault.platform.vault_uri}secrets/${secret.key}"
    }
  }

  manual_trigger_config {
    parallelism              = 1
    replica_completion_count = 1
  }

  template {
    container {
      name   = "migrate"
      image  = "${var.registry}/platform-assets-service:${var.tag}"
      args   = ["platform-assets", "migrate"]
      cpu    = 0.5
      memory = "1Gi"

      env {
        name        = "PLATFORM_DATABASE_URL"
        secret_name = "database-url"
      }

      env {
        name        = "PLATFORM_MIGRATION_DATABASE_URL"
        secret_name = "owner-database-url"
      }

      dynamic "env" {
        for_each = local.variables

        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }
}

output "service_url" {
  description = "Address of the HTTP service."
  value       = "https://${azurerm_container_app.platform["service"].ingress[0].fqdn}"
}
