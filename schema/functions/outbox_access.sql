-- Who may publish. The insert runs with the publisher's own rights; the policy
-- on tide.outbox_event asks tide.may_publish. No lock but on tide.outbox_publisher.

-- Called by the policy for each event of a role that is no member of
-- tide_publisher. The tables' owner and superusers are not asked.
create or replace function tide.may_publish(part integer) returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Who administers outboxes may publish to all.
    if has_function_privilege('tide.outbox_create(text, interval)', 'execute')
        or exists (
            select
            from tide.outbox_publisher r
            join tide.outbox_part p on p.outbox_id = r.outbox_id
            where p.part = may_publish.part
                and pg_has_role(to_regrole(quote_ident(r.role_name))::oid, 'usage'))
    then
        return true;
    end if;
    raise exception using
        errcode = '42501',
        message = format('role "%s" may not publish to outbox "%s"', current_user,
            (select o.name from tide.outbox o join tide.outbox_part p on p.outbox_id = o.id where p.part = may_publish.part)),
        hint = format('Allow it with: select tide.outbox_grant_publish(%L, %L); or: grant tide_publisher to %I;',
            (select o.name from tide.outbox o join tide.outbox_part p on p.outbox_id = o.id where p.part = may_publish.part),
            current_user, current_user);
end
$$;
comment on function tide.may_publish(integer) is
'Whether a role that is no member of tide_publisher may publish to the outbox with a partition; raises an error when not.';

create or replace function tide.outbox_grant_publish(outbox text, role regrole) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    granted tide.outbox := tide.outbox_find(outbox);
    grantee name := tide.role_name(role);
begin
    perform tide.publishing_grant(grantee);
    insert into tide.outbox_publisher as r (outbox_id, role_name)
    values (granted.id, grantee)
    on conflict on constraint outbox_publisher_pkey do nothing;
    return found;
end
$$;
comment on function tide.outbox_grant_publish(text, regrole) is
'Lets a role publish to one outbox; says whether that changed anything. Members of tide_publisher may publish to all.
Example: select tide.outbox_grant_publish(''order_events'', ''order_service'');';

create or replace function tide.outbox_revoke_publish(outbox text, role regrole) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    revoked tide.outbox := tide.outbox_find(outbox);
    grantee name := tide.role_name(role);
begin
    delete from tide.outbox_publisher r
    where r.outbox_id = revoked.id and r.role_name = grantee;
    if not found then
        return false;
    end if;
    if not exists (select from tide.outbox_publisher r where r.role_name = grantee) then
        perform tide.publishing_revoke(grantee);
    end if;
    return true;
end
$$;
comment on function tide.outbox_revoke_publish(text, regrole) is
'Takes back what tide.outbox_grant_publish gave; says whether that changed anything.
Example: select tide.outbox_revoke_publish(''order_events'', ''order_service'');';

create or replace function tide.role_name(role regrole) returns name
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_name name;
begin
    select r.rolname into found_name from pg_roles r where r.oid = role::oid;
    if role is null or found_name is null then
        raise exception using
            errcode = case when role is null then '22004' else '42704' end,
            message = format('role %s does not exist', coalesce(role::oid::text, 'null')),
            hint = 'Name an existing role, for instance ''order_service''.';
    end if;
    return found_name;
end
$$;
comment on function tide.role_name(regrole) is
'The name of a role; an error when there is none.';

-- The rights that publishing needs. The columns leave out xid, id and
-- published_at, so that nobody forges what the reader relies on.
create or replace function tide.publishing_grant(role_name name) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('grant usage on schema tide to %I', role_name);
    execute format('grant usage on sequence tide.outbox_event_id_seq to %I', role_name);
    execute format('grant insert (part, event_id, stream, key, op, payload, headers) on tide.outbox_event to %I', role_name);
    execute format('grant select (id, name, part, enabled) on tide.outbox to %I', role_name);
    execute format('grant select on tide.outbox_part, tide.outbox_publisher to %I', role_name);
    execute format('grant execute on function %s to %I', tide.publishing_functions(), role_name);
end
$$;
comment on function tide.publishing_grant(name) is
'Gives a role the rights that publishing needs.';

create or replace function tide.publishing_revoke(role_name name) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- The roles of pg_tide keep what they have.
    if role_name like 'tide\_%' or role_name = 'pg_database_owner' then
        return;
    end if;
    execute format('revoke usage on sequence tide.outbox_event_id_seq from %I', role_name);
    execute format('revoke insert (part, event_id, stream, key, op, payload, headers) on tide.outbox_event from %I', role_name);
    execute format('revoke select (id, name, part, enabled) on tide.outbox from %I', role_name);
    execute format('revoke select on tide.outbox_part, tide.outbox_publisher from %I', role_name);
    execute format('revoke execute on function %s from %I', tide.publishing_functions(), role_name);
    execute format('revoke usage on schema tide from %I', role_name);
end
$$;
comment on function tide.publishing_revoke(name) is
'Takes the rights that publishing needs from a role.';

create or replace function tide.publishing_functions() returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(p.oid::regprocedure::text, ', ' order by p.oid::regprocedure::text)
    from pg_proc p
    where p.pronamespace = 'tide'::regnamespace
        and p.proname in ('outbox_publish', 'outbox_publish_many', 'outbox_publish_refuse', 'outbox_publish_many_refuse',
            'may_publish', 'check_name', 'refuse_unknown', 'nearest_name', 'edit_distance')
$$;
comment on function tide.publishing_functions() is
'The functions that publishing calls, as a list.';
