-- How many dead letters a pipeline has.
--
-- $1 pipeline
select count(*)
from tide.dead_letter d
where d.pipeline_id = $1
