-- Who may run this, and how it is kept from running others' code, see
-- outbox_capture_changed.sql.
--
-- Locks: those of tide.outbox_publish.

-- What truncate does to a captured table: refused, or told by an event.
create or replace function tide.outbox_capture_truncated() returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    capture record;
begin
    if tg_argv[1] = 'partition' and not exists (select from pg_inherits i where i.inhrelid = tg_relid) then
        return null;
    end if;
    select c.stream, o.name as outbox, c.options into capture
    from tide.outbox_capture c
    join tide.outbox o on o.id = c.outbox_id
    where c.id = tg_argv[0]::uuid;
    if not found then
        perform tide.outbox_capture_refuse(tg_relid, null);
    end if;
    if tg_when = 'BEFORE' then
        if coalesce(capture.options ->> 'truncate', 'refuse') = 'refuse' then
            raise exception using
                errcode = '55000',
                message = format('table "%s" is captured into outbox "%s" and cannot be truncated: no event would tell which rows are gone',
                    tg_relid::regclass, capture.outbox),
                hint = 'Use delete, or capture the table with the option "truncate": "publish", which publishes one event for it.';
        end if;
    else
        perform tide.outbox_publish(capture.outbox, capture.stream, jsonb_build_object('table', tg_relid::regclass::text),
            case when capture.options ? 'event_type'
                then jsonb_build_object('event_type', replace(capture.options ->> 'event_type', '{op}', 'truncate')) else '{}' end,
            null, 'truncate');
    end if;
    return null;
end
$$;
comment on function tide.outbox_capture_truncated() is
'Trigger of captured tables: refuses truncate, or publishes that it happened.';
