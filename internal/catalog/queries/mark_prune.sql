-- Removes what later saves have replaced. A few stay, for people to look at.
--
-- $1 pipeline, $2 the oldest that stays
delete from tide.pipeline_mark k
where k.pipeline_id = $1 and k.seq < $2
