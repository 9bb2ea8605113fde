"""Query engines that tables are computed with."""
