-- Pipelines: configuring, pausing, deleting. Each change is announced on
-- channel tide_relay in its own transaction, so that running relays follow it
-- within a second. Locks: the pipeline's row.

create or replace function tide.relay_set_outbox(
    name    text,
    outbox  text,
    config  jsonb,
    enabled boolean default true
) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tide.check_name('pipeline', name);
    perform tide.relay_set(name, 'forward', (tide.outbox_find(outbox)).id, null, config, enabled);
end
$$;
comment on function tide.relay_set_outbox(text, text, jsonb, boolean) is
'Creates or changes a pipeline that forwards an outbox to a sink; running relays follow at once. With another outbox than before it starts again with what that one retains.
Example: select tide.relay_set_outbox(''orders-to-nats'', ''order_events'', ''{"sink_type": "nats", "url": "nats://localhost:4222", "subject_template": "events.orders.{op}"}'');';

create or replace function tide.relay_set_inbox(
    name    text,
    inbox   text,
    config  jsonb,
    enabled boolean default true
) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tide.check_name('pipeline', name);
    perform tide.relay_set(name, 'reverse', null, tide.inbox_id(inbox), config, enabled);
end
$$;
comment on function tide.relay_set_inbox(text, text, jsonb, boolean) is
'Creates or changes a pipeline that brings a source''s messages into an inbox; running relays follow at once.
Example: select tide.relay_set_inbox(''orders-for-payments'', ''payment_triggers'', ''{"source_type": "nats", "url": "nats://localhost:4222", "subject": "events.orders.>", "durable_name": "payment-service"}'');';

create or replace function tide.relay_set(
    name      text,
    direction text,
    outbox_id integer,
    inbox_id  integer,
    config    jsonb,
    enabled   boolean
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    pipeline tide.pipeline;
    here     integer;
    spoken   boolean;
begin
    if enabled is null then
        raise exception using
            errcode = '22004',
            message = format('enabled of pipeline "%s" is null', name),
            hint = 'Say true or false.';
    end if;
    perform tide.config_check(name, direction, config);
    here := tide.node_look();

    insert into tide.pipeline as p (name, direction, outbox_id, inbox_id, config, enabled, incarnation)
    values (relay_set.name, relay_set.direction, relay_set.outbox_id, relay_set.inbox_id, relay_set.config, relay_set.enabled, here)
    on conflict on constraint pipeline_name_key do nothing
    returning p.* into pipeline;
    if found then
        insert into tide.pipeline_owner (pipeline_id) values (pipeline.id);
        perform pg_notify('tide_relay', name);
        return;
    end if;

    pipeline := tide.pipeline_find(name);
    if pipeline.direction <> direction then
        raise exception using
            errcode = '55000',
            message = format('pipeline "%s" exists and is a %s pipeline', name, pipeline.direction),
            hint = format('Choose another name, or delete it first: select tide.relay_delete(%L);', name);
    end if;
    if (pipeline.outbox_id, pipeline.inbox_id, pipeline.config, pipeline.enabled)
        is not distinct from (outbox_id, inbox_id, config, enabled)
    then
        return;
    end if;
    spoken := (pipeline.outbox_id, pipeline.inbox_id, pipeline.config) is distinct from (outbox_id, inbox_id, config);
    update tide.pipeline p
    set outbox_id = relay_set.outbox_id,
        inbox_id = relay_set.inbox_id,
        config = relay_set.config,
        enabled = relay_set.enabled,
        -- Who changes a pipeline in a copy speaks for the copy. Who only sets
        -- again what was copied, as a deployment does, does not.
        incarnation = case when spoken then here else p.incarnation end,
        adopted_at = case when spoken and p.incarnation < here then clock_timestamp() else p.adopted_at end,
        version = p.version + 1,
        updated_at = now()
    where p.id = pipeline.id;
    if pipeline.outbox_id <> outbox_id then
        perform tide.pipeline_forget_position(pipeline.id);
    end if;
    perform pg_notify('tide_relay', name);
end
$$;
comment on function tide.relay_set(text, text, integer, integer, jsonb, boolean) is
'Creates or changes a pipeline.';

-- A position says what was delivered of one outbox; of another one nothing
-- was. The relay that is at work with the old position is superseded first.
create or replace function tide.pipeline_forget_position(pipeline_id integer) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update tide.pipeline_owner o
    set relay_id = null, fence = o.fence + 1, since = clock_timestamp()
    where o.pipeline_id = pipeline_forget_position.pipeline_id;
    delete from tide.pipeline_position p
    where p.pipeline_id = pipeline_forget_position.pipeline_id;
end
$$;
comment on function tide.pipeline_forget_position(integer) is
'Makes a pipeline start again at the beginning of its outbox.';

-- The row of a pipeline, locked against a change of it; an error when there is
-- none. Whatever a relay writes locks its row of pipeline_owner and then, by a
-- foreign key, the pipeline's row against removal. With "for update" here a
-- save that has the owner's row would wait for the pipeline's, and whoever
-- called this one would wait for the owner's: a deadlock.
create or replace function tide.pipeline_find(name text) returns tide.pipeline
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    pipeline tide.pipeline;
begin
    select p.* into pipeline from tide.pipeline p where p.name = pipeline_find.name for no key update;
    if not found then
        perform tide.refuse_unknown('pipeline', name, array(select p.name from tide.pipeline p));
    end if;
    return pipeline;
end
$$;
comment on function tide.pipeline_find(text) is
'The row of a pipeline, locked; an error when there is none.';

create or replace function tide.relay_enable(name text) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.relay_switch(name, true);
end
$$;
comment on function tide.relay_enable(text) is
'Resumes a paused pipeline; says whether that changed anything.
Example: select tide.relay_enable(''orders-to-nats'');';

create or replace function tide.relay_disable(name text) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.relay_switch(name, false);
end
$$;
comment on function tide.relay_disable(text) is
'Pauses a pipeline until tide.relay_enable; it goes on where it stopped. Says whether that changed anything.
Example: select tide.relay_disable(''orders-to-nats'');';

create or replace function tide.relay_switch(name text, enabled boolean) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    pipeline tide.pipeline := tide.pipeline_find(name);
begin
    if pipeline.enabled = enabled then
        return false;
    end if;
    update tide.pipeline p
    set enabled = relay_switch.enabled, version = p.version + 1, updated_at = now()
    where p.id = pipeline.id;
    perform pg_notify('tide_relay', name);
    return true;
end
$$;
comment on function tide.relay_switch(text, boolean) is
'Pauses or resumes a pipeline; says whether that changed anything.';

-- Locks: the rows of pipeline_owner and of the pipeline, in the order in which
-- a relay does. It waits for a relay's statement at most.
create or replace function tide.relay_delete(name text, if_exists boolean default false) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    pipeline tide.pipeline;
    waiting  bigint;
begin
    if if_exists and name is not null and not exists (select from tide.pipeline p where p.name = relay_delete.name) then
        return false;
    end if;
    pipeline := tide.pipeline_find(name);
    select count(*) into waiting from tide.dead_letter d where d.pipeline_id = pipeline.id;
    if waiting > 0 then
        raise notice using
            message = format('pipeline "%s" is deleted together with its %s dead letters', name, waiting),
            hint = 'Roll back if you still need them; tide.dead_letters shows them.';
    end if;
    perform from tide.pipeline_owner o where o.pipeline_id = pipeline.id for update;
    delete from tide.pipeline p where p.id = pipeline.id;
    perform pg_notify('tide_relay', name);
    return true;
end
$$;
comment on function tide.relay_delete(text, boolean) is
'Deletes a pipeline with its position and its dead letters; the outbox or inbox stays as it is. Says whether there was one.
Example: select tide.relay_delete(''orders-to-nats'');';

create or replace function tide.relay_get_config(name text) returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    described jsonb;
begin
    select tide.pipeline_describe(p) into described from tide.pipeline p where p.name = relay_get_config.name;
    if not found then
        perform tide.refuse_unknown('pipeline', name, array(select p.name from tide.pipeline p));
    end if;
    return described;
end
$$;
comment on function tide.relay_get_config(text) is
'A pipeline as JSON: name, direction, outbox or inbox, enabled, config with its secrets masked.
Example: select jsonb_pretty(tide.relay_get_config(''orders-to-nats''));';

create or replace function tide.relay_list_configs() returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_agg(tide.pipeline_describe(p) order by p.name), '[]')
        from tide.pipeline p
    );
end
$$;
comment on function tide.relay_list_configs() is
'All pipelines as a JSON array, each as tide.relay_get_config shows it.
Example: select jsonb_pretty(tide.relay_list_configs());';

create or replace function tide.pipeline_describe(pipeline tide.pipeline) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_strip_nulls(jsonb_build_object(
        'name', pipeline.name,
        'direction', pipeline.direction,
        'outbox', (select o.name from tide.outbox o where o.id = pipeline.outbox_id),
        'inbox', (select i.name from tide.inbox i where i.id = pipeline.inbox_id),
        'enabled', pipeline.enabled,
        'version', pipeline.version
    )) || jsonb_build_object('config', tide.config_mask(pipeline.config));
end
$$;
comment on function tide.pipeline_describe(tide.pipeline) is
'A pipeline as JSON, its secrets masked.';
