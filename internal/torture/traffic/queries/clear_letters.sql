select torture.clear_letters($1)
