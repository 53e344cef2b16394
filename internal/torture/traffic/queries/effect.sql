insert into torture.effect (event_id, line, seq, worker)
select e.event_id, e.line, e.seq, $4
from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality e(event_id, line, seq, n)
order by e.n
