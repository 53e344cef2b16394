-- Messages that wait to be processed, oldest first. Takes no row lock.
--
-- Written so that it is put into the caller's query: with LIMIT the scan of
-- the partition's index of pending messages stops early. For that it must not
-- have a SET clause; its names are bound when it is created, so no search_path
-- can lead it astray. It runs with the caller's rights.
--
-- In an ordered inbox a message that waits after a failure, or that a worker has
-- a lease on, holds back those of its key that came after it, and no others.
--
-- The condition that names no column is tested once, before anything is
-- scanned: it raises the error for an inbox that does not exist. The number is
-- asked for in a subquery so that it is not asked for with each row.
create or replace function tide.inbox_pending(inbox text)
returns table (
    id          bigint,
    event_id    text,
    source      text,
    stream      text,
    key         text,
    op          text,
    event_type  text,
    payload     jsonb,
    headers     jsonb,
    received_at timestamptz,
    attempts    integer
)
language sql
stable
begin atomic
    select m.id, m.event_id, m.source, m.stream, m.key, m.op, m.event_type,
           m.payload, m.headers, m.received_at, m.attempts
    from tide.inbox_message m
    where tide.inbox_id(inbox_pending.inbox) is not null
        and m.inbox_id = (select tide.inbox_id(inbox_pending.inbox))
        -- The pending ones, as their index has it.
        and num_nonnulls(m.processed_at, m.dead_at) < 1
        and (m.next_attempt_at is null or m.next_attempt_at <= now())
        and (m.key is null
            or not (select tide.inbox_is_ordered(inbox_pending.inbox))
            or not exists (
                select
                from tide.inbox_message b
                where b.inbox_id = m.inbox_id
                    and b.key = m.key
                    and b.id < m.id
                    and b.next_attempt_at > now()
                    and b.lease_token is null
                    and num_nonnulls(b.processed_at, b.dead_at) < 1)
            and not exists (
                select
                from tide.inbox_message b
                where b.inbox_id = m.inbox_id
                    and b.key = m.key
                    and b.lease_token is not null
                    and b.next_attempt_at > now()))
    order by m.id;
end;
comment on function tide.inbox_pending(text) is
'Messages that wait to be processed, oldest first; takes no lock. In an ordered inbox a message that failed holds back the later ones of its key until it is tried again.
Example: select id, payload from tide.inbox_pending(''payment_triggers'') limit 10;';
