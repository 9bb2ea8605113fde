environment         = "production"
database_sku        = "GP_Standard_D2ds_v5"
is_highly_available = true
