select coalesce(to_regclass($1::text)::oid::bigint, 0)
