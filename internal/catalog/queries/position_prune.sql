-- Removes positions that later ones have replaced. The range is bounded from
-- below, so that it never walks over what was removed before.
--
-- $1 pipeline, $2 first seq to remove, $3 first seq to keep
delete from tide.pipeline_position p
where p.pipeline_id = $1 and p.seq >= $2::bigint and p.seq < $3::bigint
