-- Who owns a pipeline, and when its owner first saved.
--
-- $1 pipeline
select p.name, coalesce(i.pid, 0), coalesce(o.relay_id::text, ''), o.since,
       (select s.saved_at from tide.pipeline_position s
        where s.pipeline_id = p.id and s.saved_at > o.since
        order by s.seq limit 1)
from tide.pipeline_owner o
join tide.pipeline p on p.id = o.pipeline_id
left join tide.relay_instance i on i.id = o.relay_id
where p.name = $1
