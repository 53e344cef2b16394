-- Outboxes: creating, pausing, dropping.

-- The row of the outbox, locked against a change of it; an error when there is none.
create or replace function tide.outbox_find(name text) returns tide.outbox
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    found_outbox tide.outbox;
begin
    select o.* into found_outbox from tide.outbox o where o.name = outbox_find.name for no key update;
    if not found then
        perform tide.refuse_unknown('outbox', name, array(select o.name from tide.outbox o));
    end if;
    return found_outbox;
end
$$;
comment on function tide.outbox_find(text) is
'The row of an outbox, locked; an error when there is none.';

-- A partition for new events: one that a dropped outbox left, else a new one.
-- Locks: SHARE UPDATE EXCLUSIVE on tide.outbox_event, which publishing does
-- not notice; "create table … partition of" would lock out all publishers.
--
-- A partition is used again after an hour at the earliest, and emptied again
-- then: a publisher that found the outbox just before it was dropped may have
-- written after the drop emptied the partition.
create or replace function tide.outbox_take_part() returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    taken integer;
    leaf  text;
begin
    perform pg_advisory_xact_lock(1953063013, 0);
    select p.part into taken
    from tide.outbox_part p
    where p.outbox_id is null and p.used_since < now() - interval '1 hour'
    order by p.part
    limit 1
    for update skip locked;
    if found then
        execute format('truncate tide.%I', 'outbox_event_' || taken);
        return taken;
    end if;

    select coalesce(max(p.part), 0) + 1 into taken from tide.outbox_part p;
    leaf := 'outbox_event_' || taken;
    execute format('create table tide.%I (like tide.outbox_event including defaults including constraints)', leaf);
    execute format('create index on tide.%I (id)', leaf);
    -- The reader looks for the rows of a few transactions below an id, in order of id.
    execute format('create index on tide.%I (xid, id)', leaf);
    execute format('alter table tide.outbox_event attach partition tide.%I for values in (%s)', leaf, taken);
    perform tide.copy_grants('tide.outbox_event', format('tide.%I', leaf)::regclass);
    insert into tide.outbox_part (part) values (taken);
    return taken;
end
$$;
comment on function tide.outbox_take_part() is
'Takes an unused partition of tide.outbox_event, or makes one.';

create or replace function tide.outbox_create(name text, retention interval default '1 day') returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not tide.outbox_create_if_not_exists(name, retention) then
        raise exception using
            errcode = '42710',
            message = format('outbox "%s" already exists', name),
            hint = 'Choose another name, or call tide.outbox_create_if_not_exists.';
    end if;
end
$$;
comment on function tide.outbox_create(text, interval) is
'Creates an outbox. Events are kept for the retention, and longer while a pipeline has not delivered them; at least a minute.
Example: select tide.outbox_create(''order_events'', retention => ''2 days'');';

create or replace function tide.outbox_create_if_not_exists(name text, retention interval default '1 day')
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    new_id   integer;
    new_part integer;
begin
    perform tide.check_name('outbox', name);
    perform tide.check_retention('outbox', name, retention);
    if exists (select from tide.outbox o where o.name = outbox_create_if_not_exists.name) then
        return false;
    end if;
    perform tide.node_id();
    new_part := tide.outbox_take_part();
    -- Another session may have created it while this one waited for its turn.
    insert into tide.outbox as o (name, retention, part)
    values (outbox_create_if_not_exists.name, outbox_create_if_not_exists.retention, new_part)
    on conflict on constraint outbox_name_key do nothing
    returning o.id into new_id;
    if new_id is null then
        update tide.outbox_part p set used_since = '-infinity' where p.part = new_part;
        return false;
    end if;
    update tide.outbox_part p set outbox_id = new_id, used_since = now() where p.part = new_part;
    -- Of a table that was never analyzed the planner thinks that it is ten
    -- pages long. Publishing would find its row through the index then, which
    -- costs several times what a look at the one page does.
    analyze tide.outbox;
    return true;
end
$$;
comment on function tide.outbox_create_if_not_exists(text, interval) is
'Creates an outbox unless one of that name exists; says whether it did.
Example: select tide.outbox_create_if_not_exists(''order_events'');';

create or replace function tide.outbox_enable(name text) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.outbox_switch(name, true);
end
$$;
comment on function tide.outbox_enable(text) is
'Lets events be published to a disabled outbox again; says whether that changed anything.
Example: select tide.outbox_enable(''order_events'');';

create or replace function tide.outbox_disable(name text) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.outbox_switch(name, false);
end
$$;
comment on function tide.outbox_disable(text) is
'Makes publishing to an outbox an error until tide.outbox_enable; what is in it is still delivered. Says whether that changed anything.
Example: select tide.outbox_disable(''order_events'');';

-- Locks: the outbox's row. Transactions that published before go on.
create or replace function tide.outbox_switch(name text, enabled boolean) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    outbox tide.outbox := tide.outbox_find(name);
begin
    update tide.outbox o
    set enabled = outbox_switch.enabled
    where o.id = outbox.id and o.enabled <> outbox_switch.enabled;
    return found;
end
$$;
comment on function tide.outbox_switch(text, boolean) is
'Enables or disables an outbox; says whether that changed anything.';

-- Locks: ACCESS EXCLUSIVE on the outbox's own partitions, which are emptied:
-- it waits for transactions that published to it. Other outboxes notice nothing.
create or replace function tide.outbox_drop(name text, if_exists boolean default false) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    outbox  tide.outbox;
    part    integer;
    used_by text;
begin
    if if_exists and name is not null and not exists (select from tide.outbox o where o.name = outbox_drop.name) then
        return false;
    end if;
    outbox := tide.outbox_find(name);
    select string_agg(format('"%s"', p.name), ', ' order by p.name) into used_by
    from tide.pipeline p
    where p.outbox_id = outbox.id;
    if used_by is not null then
        raise exception using
            errcode = '55006',
            message = format('outbox "%s" is used by pipeline %s', name, used_by),
            hint = 'Delete the pipeline first: select tide.relay_delete(…);';
    end if;
    -- A capture whose table is gone holds nothing up.
    delete from tide.outbox_capture c
    where c.outbox_id = outbox.id
        and not exists (
            select from pg_trigger t
            where t.tgfoid = 'tide.outbox_capture_changed()'::regprocedure
                and split_part(encode(t.tgargs, 'escape'), '\000', 1) = c.id::text);
    select string_agg(format('"%s"', c.table_name), ', ' order by c.table_name) into used_by
    from tide.outbox_capture c
    where c.outbox_id = outbox.id;
    if used_by is not null then
        raise exception using
            errcode = '55006',
            message = format('outbox "%s" takes the changes of table %s', name, used_by),
            hint = 'Stop capturing first: select tide.outbox_capture_drop(…);';
    end if;
    for part in
        update tide.outbox_part p set outbox_id = null, used_since = now(), retired_at = null, unseen_by = '{}'
        where p.outbox_id = outbox.id
        returning p.part
    loop
        execute format('truncate tide.%I', 'outbox_event_' || part);
    end loop;
    delete from tide.outbox o where o.id = outbox.id;
    return true;
end
$$;
comment on function tide.outbox_drop(text, boolean) is
'Drops an outbox with all its events; refused while a pipeline uses it. Says whether there was one.
Example: select tide.outbox_drop(''order_events'', if_exists => true);';
