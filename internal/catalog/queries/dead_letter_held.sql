-- The keys of all dead letters of a pipeline.
--
-- $1 pipeline
select distinct d.key
from tide.dead_letter d
where d.pipeline_id = $1 and d.key is not null
