-- Removes positions and what is known of dead letters from before the outbox's retention: what was sent after
-- them is not all there any more, so nobody can go back to them.
--
-- $1 pipeline, $2 first seq to keep whatever its age
with letters as (
    delete from tide.dead_letter_sent s
    using tide.pipeline l, tide.outbox o
    where l.id = $1 and o.id = l.outbox_id and s.pipeline_id = l.id and s.sent_at < now() - o.retention - interval '1 hour'
)
delete from tide.pipeline_position p
using tide.pipeline l, tide.outbox o
where l.id = $1 and o.id = l.outbox_id and p.pipeline_id = l.id and p.seq < $2::bigint
    and p.saved_at < now() - o.retention
