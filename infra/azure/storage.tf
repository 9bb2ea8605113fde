resource "random_string" "suffix" {
  length  = 6
  special = false
  upper   = false
}

# The lake: tables and models.
resource "azurerm_storage_account" "lake" {
  name                            = "lake${var.environment}${random_string.suffix.result}"
  resource_group_name             = azurerm_resource_group.platform.name
  location                        = var.location
  account_tier                    = "Standard"
  account_replication_type        = var.is_highly_available ? "ZRS" : "LRS"
  is_hns_enabled                  = true
  min_tls_version                 = "TLS1_2"
  shared_access_key_enabled       = false
  local_user_enabled              = false
  allow_nested_items_to_be_public = false
  default_to_oauth_authentication = true
  tags                            = local.tags

  network_rules {
    default_action             = "Deny"
    bypass                     = ["AzureServices"]
    virtual_network_subnet_ids = [azurerm_subnet.containers.id]
  }

  # Deleted files can be restored for as long as old table versions stay readable.
  blob_properties {
    delete_retention_policy {
      days = 30
    }

    container_delete_retention_policy {
      days = 30
    }
  }

  sas_policy {
    expiration_period = "01.00:00:00"
    expiration_action = "Block"
  }
}

resource "azurerm_storage_container" "lake" {
  name                  = "lake"
  storage_account_id    = azurerm_storage_account.lake.id
  container_access_type = "private"
}

resource "random_password" "administrator" {
  length = 40
}

resource "azurerm_postgresql_flexible_server" "platform" {
  name                          = "${local.name}-${random_string.suffix.result}"
  resource_group_name           = azurerm_resource_group.platform.name
  location                      = var.location
  version                       = "17"
  sku_name                      = var.database_sku
  storage_mb                    = var.database_storage_mb
  delegated_subnet_id           = azurerm_subnet.database.id
  private_dns_zone_id           = azurerm_private_dns_zone.database.id
  public_network_access_enabled = false
  administrator_login           = "administrator_of_platform"
  administrator_password        = random_password.administrator.result
  backup_retention_days         = var.is_highly_available ? 35 : 7
  geo_redundant_backup_enabled  = var.is_highly_available
  tags                          = local.tags

  dynamic "high_availability" {
    for_each = var.is_highly_available ? [1] : []

    content {
      mode = "ZoneRedundant"
    }
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [zone, high_availability[0].standby_availability_zone]
  }

  depends_on = [azurerm_private_dns_zone_virtual_network_link.database]
}
