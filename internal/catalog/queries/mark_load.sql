-- What the database remembers of a reverse pipeline's source: nulls when
-- nothing. moved says that the log is on another timeline than when that was saved.
--
-- $1 pipeline
select p.name, p.incarnation >= n.incarnation as adopted,
       (extract(epoch from p.adopted_at) * 1000)::bigint as claim,
       coalesce(m.seq, 0) as seq, coalesce(m.origin, '') as origin, coalesce(m.sequence, 0)::text as sequence, coalesce(m.delivery, 0)::text as delivery,
       coalesce(m.places::text, '') as places,
       coalesce(m.timeline <> n.timeline, false) as moved
from tide.node n
join tide.pipeline p on p.id = $1
left join lateral (
    select *
    from tide.pipeline_mark k
    where k.pipeline_id = $1
    order by k.seq desc
    limit 1
) m on true
