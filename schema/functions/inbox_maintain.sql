-- Cleaning inboxes, without deleting rows: in each, three partitions take
-- turns. One takes new messages; when that has lasted half of the retention,
-- the next one does. When the retention has passed since a part was closed,
-- messages in it that still wait or are dead move to the current part, its
-- event ids go to the memory, and it is truncated. The memory's partitions
-- take turns likewise, so that an event id is remembered for a retention after
-- its message was cleaned.

-- One step of one inbox, so that the transaction is short. A step that needs a
-- lock that others wait behind waits for it 50 ms, and tries again another time.
create or replace function tide.inbox_maintain(inbox text default null) returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
declare
    one     record;
    work    text;
    step    text;
    waiting jsonb := '[]';
begin
    -- Under an older snapshot, messages would be overlooked and removed.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = '25001',
            message = format('tide.inbox_maintain works in READ COMMITTED only, and this transaction is %s',
                upper(current_setting('transaction_isolation'))),
            hint = 'Call it by itself, outside a transaction of yours.';
    end if;
    if inbox is not null then
        perform tide.inbox_id(inbox);
    end if;
    for one in
        select i.id, i.name, i.retention
        from tide.inbox i
        where inbox is null or i.name = inbox
        order by i.id
    loop
        -- Who has this lock is at the same inbox.
        continue when not pg_try_advisory_xact_lock(1953063016, one.id);
        foreach work in array array['open', 'clean'] loop
            begin
                step := case work
                    when 'open' then tide.inbox_open_parts(one.id, one.retention)
                    else tide.inbox_clean(one.id, one.name, one.retention) end;
            exception
                when lock_not_available then
                    step := null;
                    waiting := waiting || jsonb_build_object('inbox', one.name, 'to', work,
                        'since', tide.inbox_maintain_waits(one.id, one.retention));
            end;
            if step is not null then
                return jsonb_build_object('inbox', one.name, 'step', step, 'more', true, 'waiting', waiting);
            end if;
        end loop;
    end loop;
    return jsonb_build_object('inbox', null, 'step', null, 'more', false, 'waiting', waiting);
end
$$;
comment on function tide.inbox_maintain(text) is
'Does one step of cleaning an inbox whose retention has passed, and says which; while more is true, call it again. The relay does so by itself.
Example: select tide.inbox_maintain();';

create or replace function tide.inbox_open_parts(inbox_id integer, retention interval) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if tide.inbox_exchange(inbox_id, 'memory', retention) then
        return 'opened a part of the memory';
    end if;
    if tide.inbox_exchange(inbox_id, 'messages', retention) then
        return 'opened a part';
    end if;
    return null;
end
$$;
comment on function tide.inbox_open_parts(integer, interval) is
'Lets the next part of an inbox or of its memory take what comes, when it is time.';

create or replace function tide.inbox_clean(inbox_id integer, name text, retention interval) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    max_moved  constant bigint := 10000;
    max_copied constant bigint := 200000;
    due        tide.inbox_part;
    done       bigint;
begin
    select p.* into due
    from tide.inbox_part p
    where p.inbox_id = inbox_clean.inbox_id and p.closed_at <= clock_timestamp() - retention
    -- Memory first: it makes room for what follows.
    order by p.kind, p.closed_at
    limit 1;
    if due.kind is null then
        return null;
    elsif due.kind = 'memory' then
        return tide.inbox_forget(due);
    end if;
    done := tide.inbox_move(due, name, max_moved);
    if done > 0 then
        return format('moved %s messages that still wait', done);
    end if;
    done := tide.inbox_remember(inbox_id, due.part, max_copied);
    if done > 0 then
        return format('remembered %s event ids', done);
    end if;
    return tide.inbox_truncate(due, retention);
end
$$;
comment on function tide.inbox_clean(integer, text, interval) is
'Does one step of cleaning the part of an inbox, or of its memory, whose retention has passed.';

-- Moves messages that wait or are dead from a closed part to the current one,
-- ids and times unchanged. Those that somebody has locked or leased stay for the
-- next time: a lease may be the one of its key in either part. Who waits for a moved row finds it gone and looks again, as
-- tide.inbox_mark_processed does; who reads sees it once, here or there.
create or replace function tide.inbox_move(due tide.inbox_part, name text, max_messages bigint) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    moved bigint;
begin
    perform set_config('tide.moving', 'on', true);
    execute format(
        'with waiting as materialized (
            select m.id from tide.inbox_message_%1$s_%2$s m
            where num_nonnulls(m.processed_at, m.dead_at) < 1 and m.lease_token is null
            order by m.id limit $1 for update skip locked
        ),
        dead as materialized (
            select m.id from tide.inbox_message_%1$s_%2$s m
            where m.dead_at is not null and m.processed_at is null
            order by m.id limit $1 for update skip locked
        ),
        gone as (
            delete from tide.inbox_message_%1$s_%2$s m
            where m.inbox_id = %1$s and m.id = any(array(select w.id from waiting w union all select d.id from dead d))
            returning m.*
        )
        insert into tide.%3$I (inbox_id, part, id, attempts, received_at, processed_at, next_attempt_at, dead_at,
            event_id, source, stream, key, op, event_type, payload, headers, last_error)
        select g.inbox_id, r.part, g.id, g.attempts, g.received_at, g.processed_at, g.next_attempt_at, g.dead_at,
            g.event_id, g.source, g.stream, g.key, g.op, g.event_type, g.payload, g.headers, g.last_error
        from gone g
        join tide.inbox_rotation r on r.inbox_id = g.inbox_id
        on conflict do nothing',
        due.inbox_id, due.part, name || '_inbox')
    using max_messages;
    get diagnostics moved = row_count;
    perform set_config('tide.moving', '', true);
    return moved;
end
$$;
comment on function tide.inbox_move(tide.inbox_part, text, bigint) is
'Moves messages that still wait from a closed part of an inbox to the current one.';

-- Locks: ACCESS EXCLUSIVE on the part. Workers with a transaction open have it
-- locked; when that has kept it from being truncated for a quarter of the
-- retention, it is waited for three seconds.
create or replace function tide.inbox_truncate(due tide.inbox_part, retention interval) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    part text := format('inbox_message_%s_%s', due.inbox_id, due.part);
    busy boolean;
begin
    if due.waiting_since < clock_timestamp() - retention / 4 then
        perform set_config('lock_timeout', '3s', true);
    end if;
    execute format('lock table tide.%I in access exclusive mode', part);
    perform set_config('lock_timeout', '50ms', true);
    -- Replayed meanwhile, or locked when the others were moved.
    execute format('select exists (select from tide.%1$I m where num_nonnulls(m.processed_at, m.dead_at) < 1)
        or exists (select from tide.%1$I m where m.dead_at is not null and m.processed_at is null)', part)
    into busy;
    if busy then
        return 'found messages that wait again';
    end if;
    perform tide.inbox_changed(due.inbox_id, '-infinity');
    perform tide.inbox_remember(due.inbox_id, due.part, null);
    perform set_config('tide.moving', 'on', true);
    execute format('truncate tide.%I', part);
    perform set_config('tide.moving', '', true);
    update tide.inbox_part p
    set opened_at = null, closed_at = null, remembered_id = 0, waiting_since = null
    where p.inbox_id = due.inbox_id and p.kind = 'messages' and p.part = due.part;
    return 'truncated a part';
end
$$;
comment on function tide.inbox_truncate(tide.inbox_part, interval) is
'Empties a part of an inbox whose event ids are remembered.';

-- Locks: ACCESS EXCLUSIVE on a part of the memory.
create or replace function tide.inbox_forget(due tide.inbox_part) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('truncate tide.inbox_memory_%s_%s', due.inbox_id, due.part);
    update tide.inbox_part p
    set opened_at = null, closed_at = null, waiting_since = null
    where p.inbox_id = due.inbox_id and p.kind = 'memory' and p.part = due.part;
    return 'forgot a part of the memory';
end
$$;
comment on function tide.inbox_forget(tide.inbox_part) is
'Empties a part of an inbox''s memory.';

-- Lets the next part take what comes, when the current one has done so for half
-- of the retention and the next one is empty.
--
-- Locks: for messages the inbox's advisory lock; relays that are inserting
-- have it, and those who come wait until this transaction ends.
create or replace function tide.inbox_exchange(inbox_id integer, kind text, retention interval) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    current  tide.inbox_part;
    rotation tide.inbox_rotation;
    next     integer;
    used     boolean;
begin
    select r.* into rotation from tide.inbox_rotation r where r.inbox_id = inbox_exchange.inbox_id;
    select p.* into current
    from tide.inbox_part p
    where p.inbox_id = inbox_exchange.inbox_id and p.kind = inbox_exchange.kind
        and p.part = case p.kind when 'memory' then rotation.memory_part else rotation.part end;
    next := (current.part + 1) % 3;
    if current.opened_at is null
        or current.opened_at > clock_timestamp() - retention / 2
        or exists (select from tide.inbox_part p
                   where p.inbox_id = inbox_exchange.inbox_id and p.kind = inbox_exchange.kind
                       and p.part = next and p.opened_at is not null)
    then
        return false;
    end if;
    execute format('select exists (select from tide.%I)',
        format('inbox_%s_%s_%s', case current.kind when 'memory' then 'memory' else 'message' end, inbox_id, current.part))
    into used;
    if not used then
        -- Nothing is in it: it is as good as the next one.
        update tide.inbox_part p
        set opened_at = case p.kind when 'messages' then clock_timestamp() end
        where p.inbox_id = current.inbox_id and p.kind = current.kind and p.part = current.part;
        return false;
    end if;
    if current.kind = 'messages' then
        perform pg_advisory_xact_lock(1953063015, inbox_id);
        update tide.inbox_rotation r
        set part = next,
            horizon = greatest(r.horizon, tide.inbox_horizon(r.latest)),
            latest = case when r.latest > clock_timestamp() then r.latest end
        where r.inbox_id = inbox_exchange.inbox_id;
    else
        update tide.inbox_rotation r set memory_part = next where r.inbox_id = inbox_exchange.inbox_id;
    end if;
    update tide.inbox_part p
    set opened_at = case when p.part = next and p.kind = 'memory' then null when p.part = next then clock_timestamp() else p.opened_at end,
        closed_at = case when p.part = next then null else clock_timestamp() end
    where p.inbox_id = inbox_exchange.inbox_id and p.kind = inbox_exchange.kind and p.part in (current.part, next);
    return true;
end
$$;
comment on function tide.inbox_exchange(integer, text, interval) is
'Lets the next part of an inbox, or of its memory, take what comes.';

-- Writes down since when cleaning an inbox waits for a lock, and says so.
create or replace function tide.inbox_maintain_waits(inbox_id integer, retention interval) returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    since timestamptz;
begin
    update tide.inbox_part p
    set waiting_since = coalesce(p.waiting_since, clock_timestamp())
    where p.inbox_id = inbox_maintain_waits.inbox_id and p.closed_at <= clock_timestamp() - retention;
    select min(p.waiting_since) into since from tide.inbox_part p where p.inbox_id = inbox_maintain_waits.inbox_id;
    return coalesce(since, clock_timestamp());
end
$$;
comment on function tide.inbox_maintain_waits(integer, interval) is
'Since when cleaning an inbox waits for a lock.';
