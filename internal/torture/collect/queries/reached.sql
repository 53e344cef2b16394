select (select coalesce(max(id), 0) from %s), (select count(*) from torture.effect)
