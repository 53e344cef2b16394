-- The saves of all pipelines that are still there, in their order.
select p.name, s.seq, s.last_id
from tide.pipeline_position s
join tide.pipeline p on p.id = s.pipeline_id
order by p.name, s.seq
