select count(tide.inbox_complete($1::text, g.token::uuid, g.ids::bigint[]))
from unnest($2::text[], $3::text[]) as g (token, ids)
