-- $1 outbox, $2 events, $3 keys, $4 type, $5 transaction, $6 padding
select count(torture.publish($1, $1 || '/' || k.key, k.key, null, $4, 'insert', $5, 'bulk', $6))
from generate_series(0, $2::integer - 1) g(n)
cross join lateral (select 'z' || lpad((g.n % $3::integer)::text, 4, '0') as key) k
