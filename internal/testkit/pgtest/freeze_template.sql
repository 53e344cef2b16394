alter database %s with is_template true allow_connections false
