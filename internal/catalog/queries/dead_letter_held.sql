-- The keys that dead letters of a pipeline hold, with the first event of each.
--
-- $1 pipeline
select d.key, coalesce(min(d.outbox_id), 0)
from tide.dead_letter d
where d.pipeline_id = $1 and d.key is not null and d.holds_key
group by d.key
