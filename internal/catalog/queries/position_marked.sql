-- The saved positions that have a mark, the newest first.
--
-- $1 pipeline, $2 greatest number of them; null for all
select p.seq, p.mark::text as mark, p.saved_at
from tide.pipeline_position p
where p.pipeline_id = $1 and p.mark is not null
order by p.seq desc
limit $2::bigint
