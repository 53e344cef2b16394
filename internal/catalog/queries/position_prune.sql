-- Thins out positions that later ones have replaced: of each minute the newest
-- stays, to go back to when the sink has lost something. The range is bounded
-- from below, so that it never walks over what was removed before.
--
-- $1 pipeline, $2 first seq to look at, $3 first seq to keep
delete from tide.pipeline_position p
using (
    select r.seq, row_number() over (partition by date_trunc('minute', r.saved_at) order by r.seq desc) as place
    from tide.pipeline_position r
    where r.pipeline_id = $1 and r.seq >= $2::bigint and r.seq < $3::bigint
) t
where p.pipeline_id = $1 and p.seq = t.seq and t.place > 1
