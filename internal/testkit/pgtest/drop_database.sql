drop database if exists %s with (force)
