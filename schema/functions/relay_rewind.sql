-- Sending again. Locks: the pipeline's row and its row of pipeline_owner, to
-- the end of the transaction; the relay's next save waits for it.
--
-- A position says: all that its snapshot sees, up to last_id, was delivered.
-- With a lower last_id and the same snapshot that still is true, what lies
-- above is found by its id, and what lies below and came late is still found by
-- the snapshot. A round of late events that is under way stays as it is: those
-- above the new last_id are not late any more.
--
-- The relay at work knows a later position and would save it over this one. Its
-- fence is therefore counted up under the same lock that a save shares: a save
-- before is read below, a save after is refused, and the relay, which keeps the
-- pipeline, starts again from here.
create or replace function tide.relay_rewind(name text, to_time timestamptz) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    pipeline tide.pipeline := tide.pipeline_find(name);
    saved    tide.pipeline_position;
    first_id bigint;
    again    bigint;
begin
    first_id := tide.rewind_first_id(pipeline, to_time);
    update tide.pipeline_owner o set fence = o.fence + 1 where o.pipeline_id = pipeline.id;
    select s.* into saved
    from tide.pipeline_position s
    where s.pipeline_id = pipeline.id
    order by s.seq desc
    limit 1;
    -- Without a position everything is still to be sent; so is what lies above the last one.
    if not found or first_id is null or first_id > saved.last_id then
        return 0;
    end if;
    again := tide.rewind_count(pipeline.outbox_id, saved, first_id);
    insert into tide.pipeline_position
        (pipeline_id, seq, snapshot, last_id, bound, floor_id, drain_snapshot, drain_id, incarnation, mark)
    values (pipeline.id, saved.seq + 1, saved.snapshot, first_id - 1, saved.bound, saved.floor_id,
            saved.drain_snapshot, saved.drain_id, saved.incarnation, saved.mark);
    perform pg_notify('tide_relay', name);
    return again;
exception
    -- A transaction that sees the database as it was before the relay's last save.
    when unique_violation then
        raise exception using
            errcode = '40001',
            message = format('the position of pipeline "%s" moved meanwhile', name),
            hint = 'Try again, in a transaction of isolation level read committed.';
end
$$;
comment on function tide.relay_rewind(text, timestamptz) is
'Makes a forward pipeline send again, with the same event ids, what was published at to_time or later; ''-infinity'' means everything that the outbox still retains. Returns how many events that is.
Example: select tide.relay_rewind(''orders-to-nats'', now() - interval ''1 hour'');';

-- The least id that a rewind to that time sends again; null when nothing was
-- published since. Reads the outbox from its oldest event on.
create or replace function tide.rewind_first_id(pipeline tide.pipeline, to_time timestamptz) returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    outbox   text := (select o.name from tide.outbox o where o.id = pipeline.outbox_id);
    parts    text;
    oldest   timestamptz;
    first_id bigint;
begin
    if pipeline.direction <> 'forward' then
        raise exception using
            errcode = '55000',
            message = format('pipeline "%s" brings messages into an inbox and cannot be rewound', pipeline.name),
            hint = 'Rewind the pipeline that sends them, or give messages that the inbox still has to its workers again: select tide.inbox_replay(inbox, ids);';
    end if;
    if to_time is null then
        raise exception using
            errcode = '22004',
            message = format('to_time for pipeline "%s" is null', pipeline.name),
            hint = 'Give the time from which events are to be sent again, for instance now() - interval ''1 hour'', or ''-infinity'' for all that are retained.';
    end if;
    if to_time > clock_timestamp() then
        raise exception using
            errcode = '22023',
            message = format('to_time %s for pipeline "%s" is in the future', to_time, pipeline.name),
            hint = format('It is %s now; give an earlier time.', clock_timestamp());
    end if;
    select array_agg(p.part)::text into parts from tide.outbox_part p where p.outbox_id = pipeline.outbox_id;
    execute format('select min(e.published_at), min(e.id) filter (where e.published_at >= $1)
        from tide.outbox_event e where e.part = any(%L)', parts)
    into oldest, first_id
    using to_time;
    if to_time < coalesce(oldest, 'infinity') and to_time <> '-infinity' then
        raise exception using
            errcode = '22023',
            message = case
                when oldest is null then format('outbox "%s" of pipeline "%s" retains no event', outbox, pipeline.name)
                else format('to_time %s for pipeline "%s" is before what outbox "%s" retains: its oldest event is of %s',
                    to_time, pipeline.name, outbox, oldest)
            end,
            hint = format('To send again all that is retained: select tide.relay_rewind(%L, ''-infinity'');', pipeline.name);
    end if;
    return first_id;
end
$$;
comment on function tide.rewind_first_id(tide.pipeline, timestamptz) is
'The least id that a rewind of a pipeline to that time sends again.';

-- How many events from first_id on a position says were delivered.
create or replace function tide.rewind_count(outbox_id integer, saved tide.pipeline_position, first_id bigint) returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    parts text;
    again bigint;
begin
    select array_agg(p.part)::text into parts from tide.outbox_part p where p.outbox_id = rewind_count.outbox_id;
    execute format(
        'select count(*)
        from tide.outbox_event e
        where e.part = any(%L) and e.id between $1 and $2
            and (e.id <= $3
                or pg_visible_in_snapshot(e.xid, $4)
                or coalesce(e.id <= $6 and pg_visible_in_snapshot(e.xid, $5), false))', parts)
    into again
    using first_id, saved.last_id, saved.floor_id, saved.snapshot, saved.drain_snapshot, saved.drain_id;
    return again;
end
$$;
comment on function tide.rewind_count(integer, tide.pipeline_position, bigint) is
'How many events from that id on a position says were delivered.';
