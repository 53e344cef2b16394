-- The keys that dead letters of a pipeline hold.
--
-- $1 pipeline
select distinct d.key
from tide.dead_letter d
where d.pipeline_id = $1 and d.key is not null and d.holds_key
