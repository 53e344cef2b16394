-- What has to be done from time to time. The relay calls it about once a
-- minute and again while it has done something; any job may do so too.
--
-- Locks: an advisory lock, tried only, so that one session is at work; the
-- outboxes' rows; and last, ACCESS EXCLUSIVE on at most one retired partition.
-- It waits for 30 ms at most for each: whoever queues behind it, a reader or a
-- publisher that is late by a rotation, waits no longer than that, and what is
-- not to be had now is had another time.
create or replace function tide.maintain()
returns table (outbox text, action text, part integer, detail text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '30ms'
as $$
declare
    candidate record;
    failures  integer := 0;
begin
    -- Under an older snapshot, events would be overlooked and removed.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = '25000',
            message = format('tide.maintain works in READ COMMITTED only, and this transaction is %s',
                upper(current_setting('transaction_isolation'))),
            hint = 'Call it by itself, outside a transaction of yours.';
    end if;
    if not pg_try_advisory_xact_lock(1953063014, 1) then
        return;
    end if;
    delete from tide.relay_instance i where i.heartbeat_at < clock_timestamp() - interval '1 hour';
    -- Called once a minute, this keeps pace with a thousand events a second.
    perform tide.outbox_received_forget(60000);

    -- As tide.outbox_create does, and for its reason: a restored dump and an
    -- upgrade bring outboxes that nobody has analyzed.
    if (select c.reltuples < 0 from pg_class c where c.oid = 'tide.outbox'::regclass) then
        begin
            analyze tide.outbox;
        exception
            when lock_not_available then
                null; -- another time
        end;
    end if;

    for candidate in select o.id, o.name from tide.outbox o order by o.id loop
        outbox := candidate.name;
        detail := null;
        begin
            select t.action, t.part into action, part from tide.outbox_turn(candidate.id) t;
        exception
            when lock_not_available then
                action := null;
            when others then
                action := 'failed';
                detail := sqlerrm;
        end;
        if action is not null then
            return next;
        end if;
    end loop;

    -- One partition at a time, and that last: the lock on it is held until the
    -- transaction ends.
    for candidate in
        select p.part, o.name
        from tide.outbox_part p
        left join tide.outbox o on o.id = p.outbox_id
        where p.retired_at is not null or p.outbox_id is null
        order by p.retired_at, p.part
    loop
        exit when failures > 2;
        outbox := candidate.name;
        part := candidate.part;
        action := 'emptied';
        detail := null;
        begin
            if tide.outbox_part_done(candidate.part) and tide.outbox_part_empty(candidate.part) then
                return next;
                return;
            end if;
        exception
            when lock_not_available then
                failures := failures + 1;
            when others then
                failures := failures + 1;
                action := 'failed';
                detail := sqlerrm;
                return next;
        end;
    end loop;
end
$$;
comment on function tide.maintain() is
'Does what has to be done from time to time: gives outboxes another partition, and empties those whose events are delivered and older than the retention. The relay calls it; call it again while it returns something other than failed.
Example: select * from tide.maintain();';
