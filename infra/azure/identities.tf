data "azurerm_client_config" "current" {}

# One identity for each set of permissions. Containers use them without a password.
#   pipeline: code location, daemon, webserver and MLflow write the lake
#   service:  the HTTP service only reads it
#   migrate:  only this one may read the URL of the role that owns the tables
resource "azurerm_user_assigned_identity" "platform" {
  for_each = toset(["pipeline", "service", "migrate"])

  name                = "${local.name}-${each.key}"
  resource_group_name = azurerm_resource_group.platform.name
  location            = var.location
  tags                = local.tags
}

resource "azurerm_role_assignment" "lake" {
  for_each = { pipeline = "Storage Blob Data Contributor", service = "Storage Blob Data Reader" }

  scope                = azurerm_storage_container.lake.id
  role_definition_name = each.value
  principal_id         = azurerm_user_assigned_identity.platform[each.key].principal_id
}

resource "azurerm_key_vault" "platform" {
  name                       = "platform-${random_string.suffix.result}"
  resource_group_name        = azurerm_resource_group.platform.name
  location                   = var.location
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
  purge_protection_enabled   = true
  soft_delete_retention_days = 90
  tags                       = local.tags

  network_acls {
    default_action             = "Deny"
    bypass                     = "AzureServices"
    virtual_network_subnet_ids = [azurerm_subnet.containers.id]
  }
}

resource "azurerm_role_assignment" "deployers" {
  for_each = var.deployers

  scope                = azurerm_key_vault.platform.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = each.value
}

# A deployer writes the values after creating the roles in PostgreSQL, so that they are not in Terraform's state.
locals {
  vault = "${azurerm_key_vault.platform.id}/secrets"
  readers = {
    "pipeline database-url"        = { identity = "pipeline", secret = "database-url" }
    "pipeline mlflow-database-url" = { identity = "pipeline", secret = "mlflow-database-url" }
    "service database-url"         = { identity = "service", secret = "database-url" }
    "migrate database-url"         = { identity = "migrate", secret = "database-url" }
    "migrate owner-database-url"   = { identity = "migrate", secret = "owner-database-url" }
  }
}

resource "azurerm_role_assignment" "secrets" {
  for_each = local.readers

  scope                = "${local.vault}/${each.value.secret}"
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.platform[each.value.identity].principal_id
}
