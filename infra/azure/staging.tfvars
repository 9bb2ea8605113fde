environment         = "staging"
database_sku        = "B_Standard_B2s"
is_highly_available = false
