-- Removes a dead letter that was delivered, while the relay owns its pipeline,
-- and remembers that its event left late; see position_rewind.
--
-- $1 pipeline, $2 relay, $3 fence, $4 id
with owned as materialized (
    select o.pipeline_id
    from tide.pipeline_owner o
    where o.pipeline_id = $1 and o.relay_id = $2 and o.fence = $3
        and coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()
    for share
),
removed as (
    delete from tide.dead_letter d
    using owned o
    where d.pipeline_id = o.pipeline_id and d.id = $4
    returning d.pipeline_id, d.outbox_id
),
sent as (
    insert into tide.dead_letter_sent (pipeline_id, outbox_id)
    select r.pipeline_id, r.outbox_id
    from removed r
    where r.outbox_id is not null
)
select count(*) from owned
