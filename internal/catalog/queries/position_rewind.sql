-- Goes back to an earlier position, if the relay still owns the pipeline; see
-- position_save for the lock and the numbering. Its snapshot, with the lesser of
-- both last ids: where a rewind lies between the two, what the later position
-- had not sent yet is not sent either. Without an earlier one everything that
-- is retained lies above the last id. Dead letters that were delivered since
-- then lie below it and may be lost as well, so it goes back before them; a
-- position is saved some time after its mark was taken, two minutes at most. The positions between are removed: the
-- sink does not have what they say, whatever their marks may look like later.
--
-- $1 pipeline, $2 relay, $3 fence, $4 seq, $5 seq to go back to
with saved as (
    insert into tide.pipeline_position
        (pipeline_id, seq, snapshot, last_id, bound, floor_id, drain_snapshot, drain_id, incarnation, mark)
    select o.pipeline_id, $4::bigint, coalesce(b.snapshot, n.snapshot), least(coalesce(b.last_id, 0), n.last_id, (
               select min(s.outbox_id) - 1
               from tide.dead_letter_sent s
               where s.pipeline_id = o.pipeline_id and s.sent_at >= b.saved_at - interval '2 minutes')),
           coalesce(b.bound, n.bound), coalesce(b.floor_id, n.floor_id), b.drain_snapshot, b.drain_id,
           coalesce(b.incarnation, n.incarnation), b.mark
    from tide.pipeline_owner o
    join tide.pipeline_position n on n.pipeline_id = o.pipeline_id and n.seq = $4::bigint - 1
    left join tide.pipeline_position b on b.pipeline_id = o.pipeline_id and b.seq = $5::bigint
    where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
    for share of o
    returning pipeline_id
), removed as (
    delete from tide.pipeline_position p
    using saved s
    where p.pipeline_id = s.pipeline_id and p.seq > $5::bigint and p.seq < $4::bigint
)
select count(*) as saved from saved
