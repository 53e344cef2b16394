select count(tide.inbox_extend($1::text, g.token::uuid, g.ids::bigint[], $4::text::interval))
from unnest($2::text[], $3::text[]) as g (token, ids)
