-- Inboxes: creating and dropping.

-- The number of an inbox, for tide.inbox_pending and the like.
create or replace function tide.inbox_id(name text) returns integer
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    id integer;
begin
    select i.id into id from tide.inbox i where i.name = inbox_id.name;
    if not found then
        perform tide.refuse_unknown('inbox', name, array(select i.name from tide.inbox i));
    end if;
    return id;
end
$$;
comment on function tide.inbox_id(text) is
'The number of an inbox; an error when there is none of that name.';

create or replace function tide.inbox_is_ordered(name text) returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select i.ordered from tide.inbox i where i.name = inbox_is_ordered.name);
end
$$;
comment on function tide.inbox_is_ordered(text) is
'Whether an inbox keeps the order of each key.';

-- Creates the relation "<name>_inbox" with its partitions, keys and indexes.
-- Locks: SHARE UPDATE EXCLUSIVE on tide.inbox_message, which working does not notice.
create or replace function tide.inbox_create(
    name         text,
    max_attempts integer  default 10,
    retention    interval default '7 days',
    ordered      boolean  default true
) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    leaf   text := name || '_inbox';
    new_id integer;
begin
    perform tide.check_name('inbox', name);
    perform tide.check_retention('inbox', name, retention);
    if max_attempts is null or max_attempts < 1 then
        raise exception using
            errcode = case when max_attempts is null then '22004' else '22023' end,
            message = format('max_attempts %s of inbox "%s" is not a number from 1', coalesce(max_attempts::text, 'null'), name),
            hint = 'Give the number of failures after which a message becomes a dead letter, for instance 10.';
    end if;
    if ordered is null then
        raise exception using
            errcode = '22004',
            message = format('ordered of inbox "%s" is null', name),
            hint = 'Say true to keep the order of each key, or false.';
    end if;
    insert into tide.inbox as i (name, max_attempts, retention, ordered)
    values (inbox_create.name, inbox_create.max_attempts, inbox_create.retention, inbox_create.ordered)
    on conflict on constraint inbox_name_key do nothing
    returning i.id into new_id;
    if new_id is null then
        raise exception using
            errcode = '42710',
            message = format('inbox "%s" already exists', name),
            hint = 'Choose another name, or drop it with tide.inbox_drop.';
    end if;
    if to_regclass(format('tide.%I', leaf)) is not null then
        raise exception using
            errcode = '42P07',
            message = format('inbox "%s" needs the relation tide."%s", which already exists', name, leaf),
            hint = 'Choose another name, or rename that relation.';
    end if;
    perform tide.node_id();
    perform tide.inbox_create_partition(new_id, leaf);
end
$$;
comment on function tide.inbox_create(text, integer, interval, boolean) is
'Creates an inbox. A message that failed max_attempts times becomes a dead letter; processed ones are kept for the retention, and their event ids for as long again; ordered keeps the order of each key.
Example: select tide.inbox_create(''payment_triggers'', max_attempts => 5);';

-- Whoever may do something with the one table may then do it with the other.
create or replace function tide.copy_grants(source regclass, target regclass) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    entry record;
begin
    for entry in
        select a.privilege_type, r.rolname
        from pg_class c
        cross join aclexplode(c.relacl) a
        join pg_roles r on r.oid = a.grantee
        where c.oid = source and a.grantee <> c.relowner
        order by r.rolname, a.privilege_type
    loop
        execute format('grant %s on %s to %I', entry.privilege_type, target, entry.rolname);
    end loop;
end
$$;
comment on function tide.copy_grants(regclass, regclass) is
'Gives everybody the rights on a table that they have on another.';

-- Locks: ACCESS EXCLUSIVE on tide.inbox_message: whoever works on any inbox
-- waits, so it is waited for three seconds at most.
create or replace function tide.inbox_drop(name text, if_exists boolean default false) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
declare
    dropped integer;
    used_by text;
begin
    if if_exists and name is not null and not exists (select from tide.inbox i where i.name = inbox_drop.name) then
        return false;
    end if;
    dropped := tide.inbox_id(name);
    perform from tide.inbox i where i.id = dropped for update;
    select string_agg(format('"%s"', p.name), ', ' order by p.name) into used_by
    from tide.pipeline p
    where p.inbox_id = dropped;
    if used_by is not null then
        raise exception using
            errcode = '55006',
            message = format('inbox "%s" is used by pipeline %s', name, used_by),
            hint = 'Delete the pipeline first: select tide.relay_delete(…);';
    end if;
    begin
        execute format('drop table tide.%I', name || '_inbox');
        for part in 0..2 loop
            execute format('drop table tide.inbox_memory_%s_%s', dropped, part);
        end loop;
    exception
        when lock_not_available then
            raise exception using
                errcode = '55P03',
                message = format('inbox "%s" was not dropped: transactions that read an inbox are open', name),
                hint = 'Try again when they have ended; pg_stat_activity shows them.';
        when dependent_objects_still_exist then
            raise exception using
                errcode = '2BP01',
                message = format('inbox "%s" was not dropped: %s', name, sqlerrm),
                hint = format('Drop what depends on tide."%s_inbox" first.', name);
    end;
    delete from tide.inbox i where i.id = dropped;
    return true;
end
$$;
comment on function tide.inbox_drop(text, boolean) is
'Drops an inbox with all its messages; refused while a pipeline uses it. Says whether there was one.
Example: select tide.inbox_drop(''payment_triggers'', if_exists => true);';
