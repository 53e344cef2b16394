lock table %s in share row exclusive mode
