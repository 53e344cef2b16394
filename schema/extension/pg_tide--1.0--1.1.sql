-- Written by: go run ./schema/generate
\echo Use "alter extension pg_tide update" to load this file. \quit
-- extension only: begin
set local search_path = pg_catalog, pg_temp;
-- extension only: end

-- tables/0006_inbox_held_keys.sql

-- Two indexes on each inbox, both small: dead letters, so that counting and
-- listing them does not read the whole inbox; and messages that wait after a
-- failure, by key, so that an ordered inbox can hold back what follows them.
-- Locks: SHARE on each inbox while its indexes are built; inserts wait.
do $$
declare
    leaf regclass;
begin
    for leaf in
        select i.inhrelid
        from pg_inherits i
        where i.inhparent = 'tide.inbox_message'::regclass and i.inhrelid <> 'tide.inbox_message_0'::regclass
        order by i.inhrelid
    loop
        execute format('create index on %s (id) where dead_at is not null', leaf);
        execute format('create index on %s (key, id)
            where next_attempt_at is not null and processed_at is null and dead_at is null', leaf);
    end loop;
end
$$;

-- tables/0007_outbox_retention.sql

-- An outbox's partitions are a ring: the current one takes new events, retired
-- ones keep theirs for the retention, emptied ones wait in reserve.
alter table tide.outbox
    -- above this an outbox's size is reported as a problem
    add column warn_bytes bigint not null default 10737418240 check (warn_bytes > 0);

alter table tide.outbox_part
    -- when it ceased to take new events; null while it is current, in reserve or unused
    add column retired_at timestamptz,
    -- transactions that may not know yet that the partition exists: they would
    -- fail to publish to it, so it becomes current when they have ended; null
    -- until they were looked for
    add column unseen_by  text[]      default '{}',
    -- whether sessions were told once more that it exists, after those had ended
    add column announced  boolean     not null default true;

-- tables/0008_inbox_memory.sql

-- An inbox's messages live in three partitions of which one takes new ones.
-- When the retention has passed, a partition's event ids go to the inbox's
-- memory and the partition is truncated; nothing is deleted. The memory has
-- three partitions as well, which are truncated after another retention.
--
-- Inboxes that are there already get their partitions when the functions are
-- in place (access/2_inboxes.sql). Locks: ACCESS EXCLUSIVE on
-- tide.inbox_message; nothing is rewritten.
alter table tide.inbox_message add column part integer not null default 0;
comment on column tide.inbox_message.part is 'Which of the inbox''s three partitions the message is in.';
comment on table tide.inbox_message is 'Messages of all inboxes; those of one inbox are the relation "<name>_inbox".';

-- Where new messages and memories of an inbox go. One row an inbox, changed
-- only when parts are exchanged or rows are removed by hand.
create table tide.inbox_rotation (
    inbox_id    integer     primary key references tide.inbox (id) on delete cascade,
    part        integer     not null default 0,
    memory_part integer     not null default 0,
    -- an event published after this is in the current part, or is new
    horizon     timestamptz not null default '-infinity',
    -- no event was received whose time is later than this; null: none from the future
    latest      timestamptz,
    -- the last transaction that removed messages in another way than marking them
    changed_by  xid8
);
comment on table tide.inbox_rotation is 'Which partitions of each inbox take new messages and new memories.';

-- Parts that hold something, or may.
create table tide.inbox_part (
    inbox_id      integer     not null references tide.inbox (id) on delete cascade,
    kind          text        not null check (kind in ('messages', 'memory')),
    part          integer     not null,
    -- null while the part is empty and waits for its turn
    opened_at     timestamptz,
    -- null until another part took its place
    closed_at     timestamptz,
    -- event ids of messages up to this id are in the memory
    remembered_id bigint      not null default 0,
    -- since when cleaning it waits for somebody's lock
    waiting_since timestamptz,
    primary key (inbox_id, kind, part)
);
comment on table tide.inbox_part is 'The partitions of each inbox and of its memory, and how far their life has gone.';

-- Event ids whose messages are gone, as 16 bytes each.
create table tide.inbox_memory (
    event    uuid    not null,
    inbox_id integer not null,
    part     integer not null
) partition by range (inbox_id, part);
comment on table tide.inbox_memory is 'Event ids that inboxes remember although their messages are cleaned.';

-- tables/0009_position_mark.sql

-- What the far end had given as proof when the position was saved: by it a
-- relay finds out later whether the far end lost something. Null where it gives none.
alter table tide.pipeline_position add column mark jsonb;
comment on column tide.pipeline_position.mark is 'By what the sink can tell that it still has everything up to here; null when it cannot.';

-- Events that were sent late, as retried dead letters: the positions saved
-- before say nothing of them, since they lie far below. Whoever goes back to a
-- position from before that time sends them again, too.
create table tide.dead_letter_sent (
    pipeline_id integer     not null references tide.pipeline (id) on delete cascade,
    outbox_id   bigint      not null,
    sent_at     timestamptz not null default clock_timestamp()
);
create index dead_letter_sent_idx on tide.dead_letter_sent (pipeline_id, sent_at);
comment on table tide.dead_letter_sent is 'Events that were delivered as retried dead letters within the outbox''s retention.';

-- tables/0010_restores.sql

-- What it takes to notice that a database is a copy, was restored, or lost
-- what it had committed.

-- The timeline of the cluster's log when a relay last looked: a promotion or a
-- point-in-time restore begins another. Null where the server does not tell.
alter table tide.node add column timeline integer;

-- In which incarnation of the database somebody last spoke for this pipeline:
-- configured or adopted it. Below the node's, no relay runs it.
alter table tide.pipeline add column incarnation integer not null default 1;
alter table tide.pipeline add column adopted_at timestamptz not null default clock_timestamp();
update tide.pipeline p
set incarnation = n.incarnation
from tide.node n
where p.incarnation <> n.incarnation;

-- When the server was started in which the ownership was taken. An ownership
-- holds for one run of one server: whatever a relay keeps in memory was read
-- there. A standby that was promoted behind its back, or a pooler that now
-- leads elsewhere, has another start time, and its log may lack what was read.
alter table tide.pipeline_owner add column server_started_at timestamptz;

-- How far each reverse pipeline has durably taken in its source. Rows are
-- added, never updated, for the reason of tide.pipeline_position; the greatest
-- seq counts.
create table tide.pipeline_mark (
    pipeline_id integer     not null references tide.pipeline (id) on delete cascade,
    seq         bigint      not null,
    -- names the source's log for ever: another stream of the same name is another origin
    origin      text        not null,
    sequence    numeric(20) not null,
    delivery    numeric(20) not null,
    -- how far, of a source with several logs, as the relay wrote it
    places      jsonb,
    timeline    integer,
    saved_at    timestamptz not null default clock_timestamp(),
    primary key (pipeline_id, seq)
);
comment on table tide.pipeline_mark is 'How far each reverse pipeline has durably taken in its source.';

-- Its result has another shape from now on.
do $$
begin
    -- asked, so that nobody is told of what a new database never had
    if to_regprocedure('tide.node_check(bigint, oid)') is not null then
        drop function tide.node_check(bigint, oid);
    end if;
end
$$;

-- tables/0011_dead_letter_parked.sql

-- A letter of the policy park_key holds its key; one that only waits behind
-- another was never attempted.
alter table tide.dead_letter add column holds_key boolean not null default false;
comment on column tide.dead_letter.holds_key is 'Whether later events of the key wait for this one, as on_error park_key has it.';
comment on column tide.dead_letter.attempts is 'How often delivery was tried; 0 for an event that was parked behind another of its key.';
-- who holds a key up, and what follows by itself once nobody does
create index dead_letter_holding_idx on tide.dead_letter (pipeline_id, key, id)
    where holds_key and attempts > 0 and retry_requested_at is null;
create index dead_letter_parked_idx on tide.dead_letter (pipeline_id, id)
    where holds_key and attempts = 0;

-- tables/0012_capture.sql

-- Tables whose changes become events. The triggers on a table carry the id of
-- its row here, and not the row the table's oid: so a renamed table stays
-- captured, and so does a dumped and restored one.
create table tide.outbox_capture (
    id             uuid        primary key default gen_random_uuid(),
    outbox_id      integer     not null references tide.outbox (id),
    -- the table's name when the capture was last set; for people
    table_name     text        not null,
    stream         text        not null,
    key_columns    text[]      not null,
    -- the columns that the options speak of, with their numbers: by these a
    -- dropped column is told from a renamed one
    named_columns  jsonb       not null,
    options        jsonb       not null,
    -- what follows from the options: columns left out, values of masked ones
    leave_out      text[]      not null,
    mask           jsonb       not null,
    -- the table's columns as they were, their types, and how each becomes
    -- JSON; null where that must be looked up each time
    plan_names     text[],
    plan_types     oid[],
    plan_kinds     text[],
    created_at     timestamptz not null default now(),
    -- the primary key of the last row that the backfill has published, as text
    backfill_after       text[],
    backfill_rows        bigint      not null default 0,
    backfill_total       bigint,
    backfill_started_at  timestamptz,
    backfill_finished_at timestamptz
);
create index outbox_capture_outbox_id_idx on tide.outbox_capture (outbox_id);
comment on table tide.outbox_capture is 'Tables whose changes are published, with what and how, and how far the backfill of their rows is.';

-- tables/0013_inbox_lease.sql

-- A worker's lease on a message. It lasts until next_attempt_at: a message
-- that is leased, as one that waits after a failure, is not to be had before.
-- The indexes come with the partitions (functions/inbox_partition.sql).
alter table tide.inbox_message
    add column lease_token uuid,
    add column leased_by   text;
comment on column tide.inbox_message.next_attempt_at is 'Not to be had before this time: after a failure, or because a worker has a lease on it until then.';
comment on column tide.inbox_message.lease_token is 'The lease that a worker has on the message; null when nobody has.';
comment on column tide.inbox_message.leased_by is 'Who has the lease.';

-- tables/0014_outbox_received.sql

-- Event ids that an outbox got from another database. Written by
-- tide.outbox_receive in the transaction that publishes the event, and removed
-- by tide.maintain. No foreign key: it would be asked for each event, and the
-- number of a dropped outbox is never given again.
create table tide.outbox_received (
    outbox_id   integer     not null,
    event_id    uuid        not null,
    received_at timestamptz not null default now(),
    primary key (outbox_id, event_id)
);
create index outbox_received_received_at_idx on tide.outbox_received (received_at);
comment on table tide.outbox_received is 'Event ids that outboxes got from other databases, so that a repeat is refused.';

-- tables/0015_source_lag.sql

-- How much the sources of reverse pipelines have left. Only the relay can ask them.
alter table tide.pipeline_state add column lag_events bigint;
comment on column tide.pipeline_state.lag_events is 'How many messages the source of a reverse pipeline had left; null when it does not say, and for forward pipelines, whose backlog is counted in the outbox.';

-- functions/adopt.sql

-- What somebody decides after a restore. Locks: the pipeline's row, its owner's.

-- Says why a saved position cannot be gone on from, or null. Whatever crash,
-- backup or promotion the database went through, a position that it saved lies
-- behind the last id drawn. Where it does not, the log was reset or tables were
-- restored singly, and what is published next would get ids that the position
-- takes for delivered.
--
-- Only ids count. That xids went back (pg_resetwal) hides nothing: what is
-- published from now on has greater ids than the position, and is found by them.
create or replace function tide.position_beyond(saved tide.pipeline_position) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    drawn bigint := (select s.last_value from tide.outbox_event_id_seq s);
begin
    if saved.last_id > drawn then
        return format('it has delivered id %s and the last id drawn is %s', saved.last_id, drawn);
    end if;
    return null;
end
$$;
comment on function tide.position_beyond(tide.pipeline_position) is
'Why a saved position cannot be gone on from, or null.';

create or replace function tide.relay_adopt(name text) returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    pipeline tide.pipeline;
    here     integer := tide.node_look();
    done     text;
begin
    pipeline := tide.pipeline_find(name);
    if pipeline.incarnation < here then
        done := format('pipeline "%s" runs in this database from now on', name);
    elsif pipeline.direction = 'reverse' then
        delete from tide.pipeline_mark m where m.pipeline_id = pipeline.id;
        done := format('pipeline "%s" goes on from where its consumer is; what the database lacks is not asked for again', name);
    elsif (
        select tide.position_beyond(p)
        from tide.pipeline_position p
        where p.pipeline_id = pipeline.id
        order by p.seq desc
        limit 1) is not null
    then
        perform tide.outbox_raise_ids();
        perform tide.pipeline_forget_position(pipeline.id);
        done := format('pipeline "%s" sends again all that its outbox retains, with the same event ids', name);
    else
        done := format('nothing stood in the way of pipeline "%s"', name);
    end if;
    update tide.pipeline p
    set incarnation = here,
        adopted_at = clock_timestamp(),
        version = p.version + 1,
        updated_at = now()
    where p.id = pipeline.id;
    perform pg_notify('tide_relay', name);
    return done;
end
$$;
comment on function tide.relay_adopt(text) is
'Lets a pipeline go on that stopped because its database is a copy, was restored, or lost what its far end has; says what that means. Run it again when the pipeline then stops for another reason.
Example: select tide.relay_adopt(''orders-to-nats'');';

-- Ids must lie above all that any position takes for delivered.
create or replace function tide.outbox_raise_ids() returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    drawn   bigint := (select s.last_value from tide.outbox_event_id_seq s);
    highest bigint := greatest(
        (select max(e.id) from tide.outbox_event e),
        (select max(p.last_id) from tide.pipeline_position p));
begin
    if highest > drawn then
        perform setval('tide.outbox_event_id_seq', highest);
    end if;
end
$$;
comment on function tide.outbox_raise_ids() is
'Makes the next id greater than every id that was ever delivered.';

create or replace function tide.relay_adoptable() returns table (name text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    here integer := tide.node_look();
begin
    return query select p.name from tide.pipeline p where p.incarnation < here order by p.name;
end
$$;
comment on function tide.relay_adoptable() is
'The pipelines that were configured in another database, of which this one is a copy, a restore or an upgrade; they wait for tide.relay_adopt.
Example: select tide.relay_adopt(name) from tide.relay_adoptable();';

-- functions/config_check.sql

-- Checking a pipeline's configuration as far as SQL can tell. No lock.

create or replace function tide.config_refuse(pipeline text, problem text, advice text, code text default '22023')
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = code,
        message = format('configuration of pipeline "%s": %s', pipeline, problem),
        hint = advice;
end
$$;
comment on function tide.config_refuse(text, text, text, text) is
'Raises the error for a configuration that is not right.';

create or replace function tide.config_check(pipeline text, direction text, config jsonb) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    technology text;
begin
    if config is null then
        perform tide.config_refuse(pipeline, 'config is null',
            'Give a JSON object, for instance ''{"sink_type": "nats", "url": "nats://localhost:4222"}''.', '22004');
    end if;
    if jsonb_typeof(config) <> 'object' then
        perform tide.config_refuse(pipeline,
            format('config is of type %s, value %s', jsonb_typeof(config), left(tide.config_mask(config)::text, 60)),
            'Give a JSON object, for instance ''{"sink_type": "nats", "url": "nats://localhost:4222"}''.');
    end if;
    technology := tide.config_technology(pipeline, direction, config);
    perform tide.config_check_object(pipeline, technology, direction, '', config);
    perform tide.config_check_required(pipeline, technology, direction, config);
    perform tide.config_check_expressions(pipeline, config);
end
$$;
comment on function tide.config_check(text, text, jsonb) is
'Refuses a pipeline''s configuration that cannot be right.';

-- The far end's technology, from sink_type or source_type.
create or replace function tide.config_technology(pipeline text, direction text, config jsonb) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    type_key  text := case direction when 'forward' then 'sink_type' else 'source_type' end;
    wrong_key text := case direction when 'forward' then 'source_type' else 'sink_type' end;
    known     text[] := array(
        select c.choice
        from tide.config_keys() k
        cross join unnest(k.choices) c (choice)
        where k.technology = 'common' and k.key = type_key
        order by c.choice);
    chosen    text := config ->> type_key;
begin
    if config ? wrong_key then
        perform tide.config_refuse(pipeline,
            format('key "%s" does not belong into a %s pipeline', wrong_key, direction),
            format('Write "%s" there, or use tide.%s.', type_key,
                case direction when 'forward' then 'relay_set_inbox' else 'relay_set_outbox' end));
    end if;
    if chosen is null then
        perform tide.config_refuse(pipeline, format('key "%s" is missing', type_key),
            format('Say what the far end is, one of: %s.', array_to_string(known, ', ')));
    end if;
    if not chosen = any(known) then
        perform tide.config_refuse(pipeline, format('%s "%s" is not known', type_key, left(chosen, 60)),
            format('Choose one of: %s.', array_to_string(known, ', ')));
    end if;
    return chosen;
end
$$;
comment on function tide.config_technology(text, text, jsonb) is
'The technology of a configuration''s far end; an error when it is unknown.';

-- Every key of an object and, where its own keys are declared, of those within.
create or replace function tide.config_check_object(
    pipeline   text,
    technology text,
    direction  text,
    prefix     text,
    config     jsonb
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    entry    record;
    declared record;
    path     text;
begin
    for entry in select e.key, e.value from jsonb_each(config) e order by e.key loop
        path := prefix || entry.key;
        select k.key, k.kind, k.alias_of, k.choices into declared
        from tide.config_keys() k
        where k.key = path
            and k.technology in ('common', config_check_object.technology)
            and coalesce(k.direction, config_check_object.direction) = config_check_object.direction
        limit 1;
        if not found then
            perform tide.config_refuse_key(pipeline, technology, direction, path);
        end if;
        perform tide.config_check_value(pipeline, path, declared.kind, declared.choices, entry.value);
        if declared.alias_of is not null then
            if config ? split_part(declared.alias_of, '.', -1) then
                perform tide.config_refuse(pipeline, format('keys "%s" and "%s" say the same', path, declared.alias_of),
                    format('Leave out "%s".', path));
            end if;
            raise notice using message =
                format('configuration of pipeline "%s": key "%s" is an alias of "%s"', pipeline, path, declared.alias_of);
        end if;
        if jsonb_typeof(entry.value) = 'object'
            and exists (select from tide.config_keys() k where k.key like replace(path, '_', '\_') || '.%')
        then
            perform tide.config_check_object(pipeline, technology, direction, path || '.', entry.value);
        end if;
        perform tide.config_warn_secret(pipeline, path, entry.key, entry.value);
    end loop;
end
$$;
comment on function tide.config_check_object(text, text, text, text, jsonb) is
'Refuses unknown keys and wrong values in a configuration.';

create or replace function tide.config_refuse_key(pipeline text, technology text, direction text, path text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    known text[] := array(
        select k.key
        from tide.config_keys() k
        where k.technology in ('common', config_refuse_key.technology)
            and coalesce(k.direction, config_refuse_key.direction) = config_refuse_key.direction
            and k.alias_of is null
        order by k.key);
    near  text := tide.nearest_name(path, known);
begin
    perform tide.config_refuse(pipeline,
        format('key "%s" is not known for a %s pipeline with %s', left(path, 80), direction, technology),
        case
            when near is not null then format('Did you mean "%s"?', near)
            else format('The keys are: %s.', array_to_string(known, ', '))
        end);
end
$$;
comment on function tide.config_refuse_key(text, text, text, text) is
'Raises the error for an unknown key, with the nearest known one.';

create or replace function tide.config_check_value(pipeline text, path text, kind text, choices text[], value jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    actual text := jsonb_typeof(value);
    shown  text := case when tide.config_is_secret(path) then '(secret)' else left(tide.config_mask(value)::text, 60) end;
    fits   boolean;
begin
    fits := case kind
        when 'integer' then actual = 'number' and trunc((value #>> '{}')::numeric) = (value #>> '{}')::numeric
        else actual = kind
    end;
    if not fits then
        perform tide.config_refuse(pipeline,
            format('key "%s" is %s, of type %s', path, shown, actual),
            format('Give a value of type %s, or leave the key out.', kind));
    end if;
    if kind = 'string' and value #>> '{}' = '' then
        perform tide.config_refuse(pipeline, format('key "%s" is empty', path),
            'Give a value, or leave the key out.');
    end if;
    if kind = 'string' and not tide.config_is_reference(value #>> '{}') and not value #>> '{}' = any(choices) then
        perform tide.config_refuse(pipeline, format('key "%s" is %s', path, shown),
            format('Choose one of: %s.', array_to_string(choices, ', ')));
    end if;
end
$$;
comment on function tide.config_check_value(text, text, text, text[], jsonb) is
'Refuses a configuration value of the wrong type or not among the choices.';

create or replace function tide.config_check_required(pipeline text, technology text, direction text, config jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    missing text;
begin
    select string_agg(format('"%s"', k.key), ', ' order by k.key) into missing
    from tide.config_keys() k
    where k.required
        and k.technology in ('common', config_check_required.technology)
        and coalesce(k.direction, config_check_required.direction) = config_check_required.direction
        and k.key not like '%.%'
        and not config ? k.key
        and not exists (select from tide.config_keys() a where a.alias_of = k.key and config ? a.key);
    if missing is not null then
        perform tide.config_refuse(pipeline, format('key %s is missing', missing),
            format('A %s pipeline with %s needs it.', direction, technology));
    end if;
end
$$;
comment on function tide.config_check_required(text, text, text, jsonb) is
'Refuses a configuration that lacks a required key.';

-- A literal secret is taken, and pointed out: whoever may read tide.pipeline
-- or a dump sees it.
create or replace function tide.config_warn_secret(pipeline text, path text, key text, value jsonb) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    written text := value #>> '{}';
begin
    if jsonb_typeof(value) = 'string'
        and (tide.config_is_secret(key) and not tide.config_is_reference(written)
            or tide.config_mask_text(written) <> written)
    then
        raise notice using
            message = format('configuration of pipeline "%s": the secret in key "%s" is stored as written', pipeline, path),
            hint = 'Write a reference instead, ${env:NAME} or ${file:PATH}: the relay resolves it.';
    end if;
end
$$;
comment on function tide.config_warn_secret(text, text, text, jsonb) is
'Points out a secret that is written into a configuration.';

-- functions/config_expression.sql

-- Expressions in a configuration: what SQL can tell about them. Whether they
-- compile, the relay says. No lock.

create or replace function tide.config_check_expressions(pipeline text, config jsonb) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    rule    record;
    path    text;
    unknown text;
    advice  text := 'A rule is an object with "when", an expression, and either "subject", a template, or "drop": true, which sends what matches nowhere.';
begin
    foreach path in array array['filter', 'payload'] loop
        if config #> array['transform', path] is not null then
            perform tide.config_check_expression(pipeline, 'transform.' || path, config #> array['transform', path]);
        end if;
    end loop;
    if jsonb_typeof(config #> '{routing,rules}') = 'array' then
        for rule in
            select r.value, r.ordinality
            from jsonb_array_elements(config #> '{routing,rules}') with ordinality r
        loop
            path := format('routing.rules[%s]', rule.ordinality - 1);
            if jsonb_typeof(rule.value) <> 'object' or not rule.value ? 'when' then
                perform tide.config_refuse(pipeline, format('key "%s" is %s', path, left(rule.value::text, 60)), advice);
            end if;
            select k.key into unknown from jsonb_object_keys(rule.value) k (key)
            where k.key not in ('when', 'subject', 'topic', 'drop') order by k.key limit 1;
            if found then
                perform tide.config_refuse(pipeline, format('key "%s.%s" is not known', path, unknown), advice);
            end if;
            -- Without a word on where to go, nobody would miss what goes nowhere.
            if coalesce(rule.value -> 'drop' = 'true', false) = (coalesce(rule.value ->> 'subject', '') || coalesce(rule.value ->> 'topic', '') <> '') then
                perform tide.config_refuse(pipeline, format('key "%s" is %s', path, left(rule.value::text, 60)), advice);
            end if;
            perform tide.config_check_expression(pipeline, path || '.when', rule.value -> 'when');
        end loop;
    end if;
    if config #> '{routing,drop_unmatched}' = 'true' and config #> '{routing,default}' is not null then
        perform tide.config_refuse(pipeline, 'keys "routing.default" and "routing.drop_unmatched" contradict each other',
            'Keep "default", a template, or "drop_unmatched": true, which sends what no rule matches nowhere.');
    end if;
end
$$;
comment on function tide.config_check_expressions(text, jsonb) is
'Refuses a configuration whose expressions cannot be right.';

-- An expression is a text that is not blank, with every quote and bracket closed.
create or replace function tide.config_check_expression(pipeline text, path text, expression jsonb) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    source  text := expression #>> '{}';
    opened  text := '';
    quote   text;
    letter  text;
    skipped boolean := false;
    advice  text := 'An expression looks like: payload.event_type == ''order.created''.';
begin
    if jsonb_typeof(expression) <> 'string' or source ~ '^\s*$' then
        perform tide.config_refuse(pipeline, format('key "%s" is %s', path, left(expression::text, 60)), advice);
    end if;
    for position in 1 .. length(source) loop
        letter := substr(source, position, 1);
        if skipped then
            skipped := false;
        elsif quote is not null then
            skipped := letter = '\';
            quote := case when letter = quote then null else quote end;
        elsif letter in ('''', '"', '`') then
            quote := letter;
        elsif letter in ('(', '[', '{') then
            opened := opened || translate(letter, '([{', ')]}');
        elsif letter in (')', ']', '}') then
            if right(opened, 1) <> letter then
                perform tide.config_refuse(pipeline,
                    format('key "%s": "%s" at character %s of %s closes nothing', path, letter, position, left(source, 120)), advice);
            end if;
            opened := left(opened, -1);
        end if;
    end loop;
    if quote is not null or opened <> '' then
        perform tide.config_refuse(pipeline,
            format('key "%s": %s is not closed in %s', path, coalesce('quote ' || quote, 'a bracket, ' || right(opened, 1) || ' is awaited,'), left(source, 120)), advice);
    end if;
end
$$;
comment on function tide.config_check_expression(text, text, jsonb) is
'Refuses a text that cannot be an expression.';

-- functions/config_keys.sql

-- Generated from the declared configuration fields; do not edit.
--
-- The keys that a pipeline's configuration may have: nested keys by their
-- path, "common" for those of every technology, a null direction for both.
create or replace function tide.config_keys()
returns table (
    technology text,
    direction  text,
    key        text,
    kind       text,
    alias_of   text,
    choices    text[],
    required   boolean
)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    values
    ('common', 'forward', 'sink_type', 'string', null::text, '{nats,kafka,pg_inbox,pg_outbox,stdout,file,webhook}'::text[], true),
    ('common', 'forward', 'batch_size', 'integer', null, null, false),
    ('common', 'forward', 'lanes', 'integer', null, null, false),
    ('common', 'forward', 'wire_format', 'string', null, '{native,cloudevents,debezium,raw,cloudevents_batch}', false),
    ('common', 'forward', 'transform', 'object', null, null, false),
    ('common', 'forward', 'transform.filter', 'string', null, null, false),
    ('common', 'forward', 'transform.payload', 'string', null, null, false),
    ('common', 'forward', 'transform.language', 'string', null, '{jmespath,cel}', false),
    ('common', 'forward', 'on_error', 'string', null, '{block,park_key,dead_letter}', false),
    ('common', 'forward', 'max_attempts', 'integer', null, null, false),
    ('common', 'forward', 'max_dead_letters', 'integer', null, null, false),
    ('common', 'forward', 'rate_limit', 'object', null, null, false),
    ('common', 'forward', 'rate_limit.max_messages_per_second', 'number', null, null, false),
    ('common', 'forward', 'rate_limit.burst_size', 'integer', null, null, false),
    ('common', 'forward', 'circuit_breaker', 'object', null, null, false),
    ('common', 'forward', 'circuit_breaker.failure_threshold', 'integer', null, null, false),
    ('common', 'forward', 'circuit_breaker.open_seconds', 'number', null, null, false),
    ('common', 'forward', 'routing', 'object', null, null, false),
    ('common', 'forward', 'routing.rules', 'array', null, null, false),
    ('common', 'forward', 'routing.default', 'string', null, null, false),
    ('common', 'forward', 'routing.drop_unmatched', 'boolean', null, null, false),
    ('common', 'reverse', 'source_type', 'string', null, '{nats,kafka,stdin,webhook}', true),
    ('common', 'reverse', 'batch_size', 'integer', null, null, false),
    ('common', 'reverse', 'lanes', 'integer', null, null, false),
    ('common', 'reverse', 'wire_format', 'string', null, '{native,cloudevents,debezium,raw}', false),
    ('common', 'reverse', 'transform', 'object', null, null, false),
    ('common', 'reverse', 'transform.filter', 'string', null, null, false),
    ('common', 'reverse', 'transform.payload', 'string', null, null, false),
    ('common', 'reverse', 'transform.language', 'string', null, '{jmespath,cel}', false),
    ('common', 'reverse', 'on_error', 'string', null, '{block,park_key,dead_letter}', false),
    ('common', 'reverse', 'max_attempts', 'integer', null, null, false),
    ('common', 'reverse', 'max_dead_letters', 'integer', null, null, false),
    ('common', 'reverse', 'rate_limit', 'object', null, null, false),
    ('common', 'reverse', 'rate_limit.max_messages_per_second', 'number', null, null, false),
    ('common', 'reverse', 'rate_limit.burst_size', 'integer', null, null, false),
    ('common', 'reverse', 'circuit_breaker', 'object', null, null, false),
    ('common', 'reverse', 'circuit_breaker.failure_threshold', 'integer', null, null, false),
    ('common', 'reverse', 'circuit_breaker.open_seconds', 'number', null, null, false),
    ('common', 'reverse', 'inbox_push', 'object', null, null, false),
    ('common', 'reverse', 'inbox_push.url', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.signing_secret', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.previous_signing_secret', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.bearer_token', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.concurrency', 'integer', null, null, false),
    ('common', 'reverse', 'inbox_push.timeout_seconds', 'number', null, null, false),
    ('common', 'reverse', 'inbox_push.max_body_bytes', 'integer', null, null, false),
    ('common', 'reverse', 'inbox_push.allow_networks', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.tls_ca_file', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.tls_ca_cert', 'string', 'inbox_push.tls_ca_file', null, false),
    ('common', 'reverse', 'inbox_push.tls_cert_file', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.tls_key_file', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.tls_server_name', 'string', null, null, false),
    ('common', 'reverse', 'inbox_push.wire_format', 'string', null, '{native,cloudevents}', false),
    ('common', 'reverse', 'inbox_push.circuit_breaker', 'object', null, null, false),
    ('common', 'reverse', 'inbox_push.circuit_breaker.failure_threshold', 'integer', null, null, false),
    ('common', 'reverse', 'inbox_push.circuit_breaker.open_seconds', 'number', null, null, false),
    ('nats', 'forward', 'url', 'string', null, null, true),
    ('nats', 'forward', 'credentials_file', 'string', null, null, false),
    ('nats', 'forward', 'credentials', 'string', 'credentials_file', null, false),
    ('nats', 'forward', 'nkey_seed', 'string', null, null, false),
    ('nats', 'forward', 'token', 'string', null, null, false),
    ('nats', 'forward', 'username', 'string', null, null, false),
    ('nats', 'forward', 'password', 'string', null, null, false),
    ('nats', 'forward', 'tls_ca_file', 'string', null, null, false),
    ('nats', 'forward', 'tls_ca_cert', 'string', 'tls_ca_file', null, false),
    ('nats', 'forward', 'tls_cert_file', 'string', null, null, false),
    ('nats', 'forward', 'tls_key_file', 'string', null, null, false),
    ('nats', 'forward', 'tls_server_name', 'string', null, null, false),
    ('nats', 'forward', 'subject_template', 'string', null, null, false),
    ('nats', 'forward', 'subject', 'string', 'subject_template', null, false),
    ('nats', 'forward', 'atomic', 'boolean', null, null, false),
    ('nats', 'forward', 'atomic_oversize', 'string', null, '{refuse,split}', false),
    ('nats', 'forward', 'stream', 'string', null, null, false),
    ('nats', 'forward', 'create_stream', 'boolean', null, null, false),
    ('nats', 'forward', 'storage', 'string', null, '{file,memory}', false),
    ('nats', 'forward', 'replicas', 'integer', null, null, false),
    ('nats', 'forward', 'duplicate_window', 'string', null, null, false),
    ('nats', 'reverse', 'url', 'string', null, null, true),
    ('nats', 'reverse', 'credentials_file', 'string', null, null, false),
    ('nats', 'reverse', 'credentials', 'string', 'credentials_file', null, false),
    ('nats', 'reverse', 'nkey_seed', 'string', null, null, false),
    ('nats', 'reverse', 'token', 'string', null, null, false),
    ('nats', 'reverse', 'username', 'string', null, null, false),
    ('nats', 'reverse', 'password', 'string', null, null, false),
    ('nats', 'reverse', 'tls_ca_file', 'string', null, null, false),
    ('nats', 'reverse', 'tls_ca_cert', 'string', 'tls_ca_file', null, false),
    ('nats', 'reverse', 'tls_cert_file', 'string', null, null, false),
    ('nats', 'reverse', 'tls_key_file', 'string', null, null, false),
    ('nats', 'reverse', 'tls_server_name', 'string', null, null, false),
    ('nats', 'reverse', 'subject', 'string', null, null, true),
    ('nats', 'reverse', 'durable_name', 'string', null, null, false),
    ('nats', 'reverse', 'consumer', 'string', 'durable_name', null, false),
    ('nats', 'reverse', 'consumer_group', 'string', null, null, false),
    ('nats', 'reverse', 'queue_group', 'string', 'consumer_group', null, false),
    ('nats', 'reverse', 'deliver_from', 'string', null, null, false),
    ('nats', 'reverse', 'auto_offset_reset', 'string', 'deliver_from', null, false),
    ('nats', 'reverse', 'ack_wait_secs', 'integer', null, null, false),
    ('nats', 'reverse', 'max_ack_pending', 'integer', null, null, false),
    ('nats', 'reverse', 'stream', 'string', null, null, false),
    ('nats', 'reverse', 'create_stream', 'boolean', null, null, false),
    ('nats', 'reverse', 'storage', 'string', null, '{file,memory}', false),
    ('nats', 'reverse', 'replicas', 'integer', null, null, false),
    ('nats', 'reverse', 'duplicate_window', 'string', null, null, false),
    ('kafka', 'forward', 'brokers', 'string', null, null, true),
    ('kafka', 'forward', 'bootstrap_servers', 'string', 'brokers', null, false),
    ('kafka', 'forward', 'sasl_mechanism', 'string', null, '{PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER}', false),
    ('kafka', 'forward', 'sasl_username', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_password', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_token', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_token_file', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_oauth_url', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_client_id', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_client_secret', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_scope', 'string', null, null, false),
    ('kafka', 'forward', 'sasl_without_tls', 'boolean', null, null, false),
    ('kafka', 'forward', 'tls', 'boolean', null, null, false),
    ('kafka', 'forward', 'tls_ca_file', 'string', null, null, false),
    ('kafka', 'forward', 'tls_ca_cert', 'string', 'tls_ca_file', null, false),
    ('kafka', 'forward', 'tls_cert_file', 'string', null, null, false),
    ('kafka', 'forward', 'tls_key_file', 'string', null, null, false),
    ('kafka', 'forward', 'tls_server_name', 'string', null, null, false),
    ('kafka', 'forward', 'topic_template', 'string', null, null, false),
    ('kafka', 'forward', 'topic', 'string', 'topic_template', null, false),
    ('kafka', 'forward', 'acks', 'string', null, '{all,leader}', false),
    ('kafka', 'forward', 'compression', 'string', null, '{none,gzip,snappy,lz4,zstd}', false),
    ('kafka', 'forward', 'transactional', 'boolean', null, null, false),
    ('kafka', 'forward', 'transactional_id', 'string', null, null, false),
    ('kafka', 'forward', 'transaction_timeout', 'string', null, null, false),
    ('kafka', 'forward', 'transactional_oversize', 'string', null, '{refuse,split}', false),
    ('kafka', 'forward', 'create_topic', 'boolean', null, null, false),
    ('kafka', 'forward', 'partitions', 'integer', null, null, false),
    ('kafka', 'forward', 'replication_factor', 'integer', null, null, false),
    ('kafka', 'forward', 'min_insync_replicas', 'integer', null, null, false),
    ('kafka', 'reverse', 'brokers', 'string', null, null, true),
    ('kafka', 'reverse', 'bootstrap_servers', 'string', 'brokers', null, false),
    ('kafka', 'reverse', 'sasl_mechanism', 'string', null, '{PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER}', false),
    ('kafka', 'reverse', 'sasl_username', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_password', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_token', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_token_file', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_oauth_url', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_client_id', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_client_secret', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_scope', 'string', null, null, false),
    ('kafka', 'reverse', 'sasl_without_tls', 'boolean', null, null, false),
    ('kafka', 'reverse', 'tls', 'boolean', null, null, false),
    ('kafka', 'reverse', 'tls_ca_file', 'string', null, null, false),
    ('kafka', 'reverse', 'tls_ca_cert', 'string', 'tls_ca_file', null, false),
    ('kafka', 'reverse', 'tls_cert_file', 'string', null, null, false),
    ('kafka', 'reverse', 'tls_key_file', 'string', null, null, false),
    ('kafka', 'reverse', 'tls_server_name', 'string', null, null, false),
    ('kafka', 'reverse', 'topic', 'string', null, null, true),
    ('kafka', 'reverse', 'topics', 'string', 'topic', null, false),
    ('kafka', 'reverse', 'group_id', 'string', null, null, false),
    ('kafka', 'reverse', 'consumer_group', 'string', 'group_id', null, false),
    ('kafka', 'reverse', 'start_offset', 'string', null, null, false),
    ('kafka', 'reverse', 'auto_offset_reset', 'string', 'start_offset', null, false),
    ('kafka', 'reverse', 'create_topic', 'boolean', null, null, false),
    ('kafka', 'reverse', 'partitions', 'integer', null, null, false),
    ('kafka', 'reverse', 'replication_factor', 'integer', null, null, false),
    ('kafka', 'reverse', 'min_insync_replicas', 'integer', null, null, false),
    ('pg_inbox', 'forward', 'url', 'string', null, null, true),
    ('pg_inbox', 'forward', 'password', 'string', null, null, false),
    ('pg_inbox', 'forward', 'tls_ca_file', 'string', null, null, false),
    ('pg_inbox', 'forward', 'tls_cert_file', 'string', null, null, false),
    ('pg_inbox', 'forward', 'tls_key_file', 'string', null, null, false),
    ('pg_inbox', 'forward', 'inbox', 'string', null, null, true),
    ('pg_outbox', 'forward', 'url', 'string', null, null, true),
    ('pg_outbox', 'forward', 'password', 'string', null, null, false),
    ('pg_outbox', 'forward', 'tls_ca_file', 'string', null, null, false),
    ('pg_outbox', 'forward', 'tls_cert_file', 'string', null, null, false),
    ('pg_outbox', 'forward', 'tls_key_file', 'string', null, null, false),
    ('pg_outbox', 'forward', 'outbox', 'string', null, null, true),
    ('file', 'forward', 'path', 'string', null, null, true),
    ('webhook', 'forward', 'url', 'string', null, null, true),
    ('webhook', 'forward', 'signing_secret', 'string', null, null, false),
    ('webhook', 'forward', 'previous_signing_secret', 'string', null, null, false),
    ('webhook', 'forward', 'bearer_token', 'string', null, null, false),
    ('webhook', 'forward', 'concurrency', 'integer', null, null, false),
    ('webhook', 'forward', 'timeout_seconds', 'number', null, null, false),
    ('webhook', 'forward', 'max_body_bytes', 'integer', null, null, false),
    ('webhook', 'forward', 'allow_networks', 'string', null, null, false),
    ('webhook', 'forward', 'tls_ca_file', 'string', null, null, false),
    ('webhook', 'forward', 'tls_ca_cert', 'string', 'tls_ca_file', null, false),
    ('webhook', 'forward', 'tls_cert_file', 'string', null, null, false),
    ('webhook', 'forward', 'tls_key_file', 'string', null, null, false),
    ('webhook', 'forward', 'tls_server_name', 'string', null, null, false),
    ('webhook', 'forward', 'path_template', 'string', null, null, false),
    ('webhook', 'forward', 'path', 'string', 'path_template', null, false),
    ('webhook', 'forward', 'batch_max_events', 'integer', null, null, false),
    ('webhook', 'reverse', 'listen', 'string', null, null, false),
    ('webhook', 'reverse', 'path', 'string', null, null, false),
    ('webhook', 'reverse', 'signature', 'string', null, '{standard_webhooks,github,stripe,hmac_sha256,none}', true),
    ('webhook', 'reverse', 'secret', 'string', null, null, false),
    ('webhook', 'reverse', 'previous_secret', 'string', null, null, false),
    ('webhook', 'reverse', 'signature_header', 'string', null, null, false),
    ('webhook', 'reverse', 'signature_encoding', 'string', null, '{hex,base64}', false),
    ('webhook', 'reverse', 'signature_prefix', 'string', null, null, false),
    ('webhook', 'reverse', 'tolerance_seconds', 'integer', null, null, false),
    ('webhook', 'reverse', 'allow_unsigned', 'boolean', null, null, false),
    ('webhook', 'reverse', 'id_header', 'string', null, null, false),
    ('webhook', 'reverse', 'type_header', 'string', null, null, false),
    ('webhook', 'reverse', 'max_body_bytes', 'integer', null, null, false),
    ('webhook', 'reverse', 'max_requests_per_second', 'number', null, null, false),
    ('webhook', 'reverse', 'max_pending', 'integer', null, null, false),
    ('webhook', 'reverse', 'response_timeout_seconds', 'number', null, null, false),
    ('webhook', 'reverse', 'tls_cert_file', 'string', null, null, false),
    ('webhook', 'reverse', 'tls_key_file', 'string', null, null, false)
$$;

comment on function tide.config_keys() is 'The keys that a pipeline''s configuration may have.';

-- functions/config_mask.sql

-- Secrets in configurations: recognising and hiding them. No lock.

-- Keys whose value is a secret.
create or replace function tide.config_is_secret(key text) returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select key ~* '(^|_)(password|passphrase|token|secret|seed|api_key|access_key|private_key)$'
$$;
comment on function tide.config_is_secret(text) is
'Whether the value of a configuration key is a secret.';

-- A reference such as ${env:NAME} says where a secret is and is none itself.
create or replace function tide.config_is_reference(value text) returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select value ~ '^\$\{(env|file):[^}]*\}$'
$$;
comment on function tide.config_is_reference(text) is
'Whether a configuration value is nothing but a reference to a secret.';

-- A text without the passwords in the URLs it holds; a token alone in front of
-- the @ is one too.
create or replace function tide.config_mask_text(value text) returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select regexp_replace(
        regexp_replace(value, '(://[^/@:,\s]*):(?!\$\{[^}]*\}@)[^/@]*@', '\1:***@', 'g'),
        '://(?!\$\{[^}]*\}@)[^/@:,\s]+@', '://***@', 'g')
$$;
comment on function tide.config_mask_text(text) is
'A text without the passwords in its URLs.';

create or replace function tide.config_mask(config jsonb) returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    case jsonb_typeof(config)
        when 'object' then
            return (
                select coalesce(jsonb_object_agg(
                    e.key,
                    case
                        when tide.config_is_secret(e.key) and not tide.config_is_reference(e.value #>> '{}') then '"***"'
                        else tide.config_mask(e.value)
                    end), '{}')
                from jsonb_each(config) e
            );
        when 'array' then
            return (select coalesce(jsonb_agg(tide.config_mask(e.value) order by e.ordinality), '[]')
                    from jsonb_array_elements(config) with ordinality e);
        when 'string' then
            return to_jsonb(tide.config_mask_text(config #>> '{}'));
        else
            return config;
    end case;
end
$$;
comment on function tide.config_mask(jsonb) is
'A configuration with its secrets replaced by ***; references to secrets stay.';

-- functions/dead_letter.sql

-- Dead letters of pipelines: trying again, giving up. Locks: the dead
-- letters' rows. Running relays are told on channel tide_relay.

create or replace function tide.dead_letter_retry(pipeline text, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    asked_of tide.pipeline := tide.pipeline_find(pipeline);
    changed  bigint;
begin
    perform tide.dead_letter_check_ids(pipeline, ids);
    update tide.dead_letter d
    set retry_requested_at = clock_timestamp()
    where d.pipeline_id = asked_of.id and d.id = any(ids);
    get diagnostics changed = row_count;
    perform pg_notify('tide_relay', pipeline);
    return changed;
end
$$;
comment on function tide.dead_letter_retry(text, bigint[]) is
'Asks the relay to try dead letters again; returns how many there were of these. One that succeeds vanishes.
Example: select tide.dead_letter_retry(''orders-to-nats'', array(select id from tide.dead_letters where pipeline = ''orders-to-nats''));';

create or replace function tide.dead_letter_discard(pipeline text, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    asked_of tide.pipeline := tide.pipeline_find(pipeline);
    changed  bigint;
begin
    perform tide.dead_letter_check_ids(pipeline, ids);
    delete from tide.dead_letter d
    where d.pipeline_id = asked_of.id and d.id = any(ids);
    get diagnostics changed = row_count;
    perform pg_notify('tide_relay', pipeline);
    return changed;
end
$$;
comment on function tide.dead_letter_discard(text, bigint[]) is
'Removes dead letters for good; returns how many there were of these.
Example: select tide.dead_letter_discard(''orders-to-nats'', array[7, 8]);';

create or replace function tide.dead_letter_check_ids(pipeline text, ids bigint[]) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if ids is null then
        raise exception using
            errcode = '22004',
            message = format('ids of dead letters of pipeline "%s" is null', pipeline),
            hint = format('Name them, for instance: array(select id from tide.dead_letters where pipeline = %L).', pipeline);
    end if;
end
$$;
comment on function tide.dead_letter_check_ids(text, bigint[]) is
'Refuses null in place of the ids of dead letters.';

-- functions/inbox.sql

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

-- functions/inbox_claim.sql

-- Claiming messages. A lease lasts until next_attempt_at; while it lasts, the
-- message is nobody else's. The attempt counts from the claim, so a message
-- that kills its worker is noticed.

-- Locks: the rows it takes; those that others have locked are passed over.
-- Nobody is waited for, but in one case: two workers at once find messages of
-- one key of which neither sees the other's, because the earlier one became
-- visible only between their looks. They meet in the unique index of leased
-- keys; the second waits for the first, and looks again.
create or replace function tide.inbox_claim(
    inbox        text,
    worker       text,
    max_messages integer  default 10,
    lease        interval default '30 seconds'
) returns table (
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
    attempts    integer,
    lease_token uuid
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- The only good plans go by the indexes, row by row, and what statistics say of
-- a queue is old: they would have it read whole. Rows are found by the index of
-- pending messages, which has nothing but the id, so that there is no choice.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
-- Planned once in a session: to plan with the values each time was a quarter of a
-- claim of ten. The plan for all values cannot know how little is asked for, and
-- so seems worth compiling, which took 17 ms each time.
set plan_cache_mode = force_generic_plan
set jit = off
-- Values are handed over as text, and in these styles they come back the same;
-- 'SQL' writes zones as abbreviations, of which some are read as another's.
set datestyle = 'ISO'
set intervalstyle = 'postgres'
as $$
declare
    settings tide.inbox;
    source   text;
    token    uuid := gen_random_uuid();
    ids      bigint[];
    taken    bigint[] := '{}';
    expired  boolean;
    ended    boolean := false;
begin
    select i.* into settings from tide.inbox i where i.name = inbox_claim.inbox;
    if not found then
        perform tide.inbox_id(inbox);
    end if;
    perform tide.inbox_check_claim(inbox, worker, max_messages, lease);
    -- Whoever makes processed messages pending again waits for this lock, so
    -- that none comes back between a look and the lease of a later one of its key.
    perform pg_advisory_xact_lock_shared(1953063017, settings.id);
    source := tide.inbox_source(settings);
    for try in 1..4 loop
        begin
            select c.ids, c.expired into ids, expired from tide.inbox_candidates(settings, source, max_messages, not ended) c;
            if expired then
                -- Among them may be the first of a key; then look again. Once: one
                -- whose row a worker has locked, who completes it late, stays as it is,
                -- and would keep all others from being given out.
                perform tide.inbox_expire(settings, source, max_messages);
                ended := true;
                continue when cardinality(ids) < max_messages;
            end if;
            exit when cardinality(ids) = 0;
            execute format('execute %I (%L, %L, %L, %L)', tide.inbox_prepare(format(
                'update %s m
                set lease_token = $3, leased_by = $4, attempts = m.attempts + 1, next_attempt_at = clock_timestamp() + $2
                where m.id = any($1) and num_nonnulls(m.processed_at, m.dead_at) < 1', source),
                'bigint[], interval, pg_catalog.uuid, pg_catalog.text'), ids, lease, token, worker);
            taken := ids;
            exit;
        exception
            when unique_violation or deadlock_detected then
                null;
        end;
    end loop;
    -- Not by the update itself: rows that it returned before it failed would be
    -- returned although their leases were undone.
    return query execute format('execute %I (%L)', tide.inbox_prepare(format(
        'select m.id, m.event_id, m.source, m.stream, m.key, m.op, m.event_type, m.payload, m.headers,
            m.received_at, m.attempts, m.lease_token
        from %s m
        where m.id = any($1) and num_nonnulls(m.processed_at, m.dead_at) < 1
        order by m.id', source), 'bigint[]'), taken);
end
$$;
comment on function tide.inbox_claim(text, text, integer, interval) is
'Takes messages for a worker, oldest first, for as long as the lease lasts; passes over what others have. Where others take too it may give fewer than max_messages although more wait. In an ordered inbox one message of a key is given out at a time. Each row has the token that tide.inbox_complete, tide.inbox_fail, tide.inbox_release and tide.inbox_extend ask for.
Example: select id, payload, lease_token from tide.inbox_claim(''payment_triggers'', ''worker-1'', max_messages => 100);';

-- Statements about one inbox are parsed once in a session and not with each
-- call; those that change what a lease holds are planned once too. The name is
-- that of the text, since which part the text names changes.
--
-- Whoever calls us may prepare statements too, and we run this one with our
-- rights. So it is taken for ours only when all of its text is the same; what
-- that means does not depend on who prepared it: types are named with their
-- schema, nothing in it is read differently by a setting, and PostgreSQL looks
-- names up again under the search_path of the one that executes.
create or replace function tide.inbox_prepare(statement text, types text) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    called text := 'tide_' || md5(statement);
    whole  text := format('prepare %I (%s) as %s', called, types, statement);
    known  text := (select case when p.from_sql then p.statement else '' end from pg_prepared_statements p where p.name = called);
begin
    if known is distinct from whole then
        if known is not null then
            execute format('deallocate %I', called);
        end if;
        execute whole;
    end if;
    return called;
end
$$;
comment on function tide.inbox_prepare(text, text) is
'The name of a prepared statement of this session that is this one.';

-- What to look for an inbox's messages in: the relation, or the one partition
-- that has any, for which a statement is planned in a third of the time.
create or replace function tide.inbox_source(settings tide.inbox) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    parts integer[] := array(
        select p.part from tide.inbox_part p
        where p.inbox_id = settings.id and p.kind = 'messages' and p.opened_at is not null);
begin
    return case cardinality(parts)
        when 1 then format('tide.inbox_message_%s_%s', settings.id, parts[1])
        else format('tide.%I', settings.name || '_inbox')
    end;
end
$$;
comment on function tide.inbox_source(tide.inbox) is
'The relation in which an inbox''s messages are, or the partition, when one has them all.';

create or replace function tide.inbox_check_claim(inbox text, worker text, max_messages integer, lease interval) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if worker is null or worker = '' then
        raise exception using
            errcode = case when worker is null then '22004' else '22023' end,
            message = format('worker of a claim on inbox "%s" is %s', inbox, case when worker is null then 'null' else 'empty' end),
            hint = 'Give a name that says who works, for instance the host''s and the process''s number.';
    elsif max_messages is null or max_messages < 1 or max_messages > 10000 then
        raise exception using
            errcode = case when max_messages is null then '22004' else '22023' end,
            message = format('max_messages %s of a claim on inbox "%s" is not a number from 1 to 10000', coalesce(max_messages::text, 'null'), inbox),
            hint = 'Claim as many as are worked within the lease, for instance 10.';
    end if;
    perform tide.inbox_check_lease(inbox, lease);
    -- Under an older snapshot the order of keys could not be kept.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = '25001',
            message = format('messages of inbox "%s" are claimed in READ COMMITTED only, and this transaction is %s',
                inbox, upper(current_setting('transaction_isolation'))),
            hint = 'Claim in a transaction of its own; tide.inbox_complete works at any isolation.';
    end if;
end
$$;
comment on function tide.inbox_check_claim(text, text, integer, interval) is
'Refuses a claim that makes no sense.';

create or replace function tide.inbox_check_lease(inbox text, lease interval) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if lease is null or lease <= interval '0' or lease > interval '1 day' then
        raise exception using
            errcode = case when lease is null then '22004' else '22023' end,
            message = format('lease %s on messages of inbox "%s" is not between 0 and a day', coalesce(lease::text, 'null'), inbox),
            hint = 'Give the time in which the work is done or the lease extended, for instance ''30 seconds''.';
    end if;
end
$$;
comment on function tide.inbox_check_lease(text, interval) is
'Refuses a lease that makes no sense.';

-- Leases that ran out become messages that wait for their next attempt, or
-- dead letters when there is none left. A step of its own, since a message
-- whose lease ran out may not be the first of its key any more, and would hold
-- the key by its token.
create or replace function tide.inbox_expire(settings tide.inbox, source text, max_messages integer) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'update %1$s m
        set lease_token = null, leased_by = null,
            last_error = format(''worker "%%s" had it until %%s and did not say what became of it'', m.leased_by, m.next_attempt_at),
            dead_at = case when m.attempts >= $2 then clock_timestamp() end
        where num_nonnulls(m.processed_at, m.dead_at) < 1 and m.id = any(array(
            select x.id
            from %1$s x
            where x.next_attempt_at <= $3 and num_nonnulls(x.processed_at, x.dead_at) < 1 and x.lease_token is not null
            order by x.next_attempt_at
            limit $1
            for update skip locked))',
        source)
    using max_messages, settings.max_attempts, clock_timestamp();
end
$$;
comment on function tide.inbox_expire(tide.inbox, text, integer) is
'Ends leases of an inbox whose time has passed.';

-- The ids of messages that may be given out now, oldest first, their rows locked.
--
-- Looked for among those whose pause is over and the first ones that were never
-- given out; among more, when they are few, because many wait behind the first
-- of their key or others are taking them. Of each key only the first found is
-- asked whether an earlier one waits, or any is leased. Twice as many as were asked
-- for are too few where four workers take from the same end: 0.85 of the rate.
create or replace function tide.inbox_candidates(
    settings     tide.inbox,
    source       text,
    max_messages integer,
    ask_expired  boolean,
    out ids      bigint[],
    out expired  boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    first_look constant bigint := 3 * max_messages + 50;
    look  bigint := first_look;
    found text;
    taken text;
    at    timestamptz;
    seen  bigint;
    start record;
    begun timestamptz := clock_timestamp();
    -- the first that was never given out, and when the first pause ended
    first_ready bigint;
    first_due   timestamptz;
    before      bigint;
begin
    start := tide.inbox_start(settings.id, begun);
    found := tide.inbox_prepare(format(
        'with ready as materialized (
            (select m.id, m.key, m.next_attempt_at, false as expired
            from %1$s m
            where m.id >= $4 and num_nonnulls(m.processed_at, m.dead_at, m.next_attempt_at) < 1
            order by m.id
            limit $2)
            union all
            (select m.id, m.key, m.next_attempt_at, m.lease_token is not null
            from %1$s m
            where m.next_attempt_at between $5 and $3 and num_nonnulls(m.processed_at, m.dead_at) < 1
            order by m.next_attempt_at
            limit $2)
        ),
        wanted as (
            select r.id
            from (
                select k.id, k.key, '||case when settings.ordered then '
                    k.key is null or row_number() over (partition by k.key collate "C" order by k.id) = 1' else 'true' end||' as first, k.expired
                from ready k
                order by k.id
                offset 0) r
            where r.first and not r.expired'||case when settings.ordered then '
                and (r.key is null
                    or (select 1 from %1$s b
                        where b.key = r.key and b.lease_token is not null
                        limit 1) is null
                    -- mostly nothing waits after a failure, which is asked once
                    and (not (select exists (
                            select from %1$s b
                            where b.next_attempt_at is not null and b.lease_token is null
                                and num_nonnulls(b.processed_at, b.dead_at) < 1))
                        or (select 1 from %1$s b
                        where b.key = r.key and b.id < r.id
                            and b.next_attempt_at is not null and b.lease_token is null
                            and num_nonnulls(b.processed_at, b.dead_at) < 1
                        limit 1) is null))' else '' end||'
        )
        select (select count(*) from ready),
               (select count(*) > 0 from ready r where r.expired),
               coalesce((select min(r.id) from ready r where r.next_attempt_at is null), (select m.id from %1$s m where m.inbox_id = $1 order by m.inbox_id desc, m.id desc limit 1)),
               coalesce((select min(r.next_attempt_at) from ready r), $3),
               array(select w.id from wanted w)',
        source), 'integer, bigint, timestamp with time zone, bigint, timestamp with time zone');
    -- A statement of its own, whose snapshot does not have what others claimed since
    -- the first one began. There, each of those would be looked at once more, for
    -- which PostgreSQL sets up all of that statement again (EvalPlanQual): a tenth of
    -- the time of four busy workers.
    taken := tide.inbox_prepare(format(
        'select array(
            select m.id
            from %1$s m
            where m.id = any($1) and num_nonnulls(m.processed_at, m.dead_at) < 1
                and m.lease_token is null and (m.next_attempt_at is null or m.next_attempt_at <= $2)
            limit $3
            for update skip locked)',
        source), 'bigint[], timestamp with time zone, integer');
    loop
        at := clock_timestamp();
        execute format('execute %I (%L, %L, %L, %L, %L)', found, settings.id, look, at, start.id, start.due)
        into seen, expired, first_ready, first_due, ids;
        expired := expired and ask_expired;
        if cardinality(ids) > 0 then
            execute format('execute %I (%L, %L, %L)', taken, ids, at, max_messages) into ids;
        end if;
        if cardinality(ids) = 0 and seen < look and not start.whole and start.cheap then
            -- Nothing: a message that became visible late may lie further back.
            start.id := 0;
            start.due := '-infinity';
            start.whole := true;
            begun := clock_timestamp();
            continue;
        end if;
        if cardinality(ids) = 0 and seen > 0 and seen < look and not expired and first_ready is distinct from before then
            -- None of what the statement saw was left when it came to lock it. Others
            -- take and complete about as fast as it passes over what they have done, so
            -- a statement that fell behind never reaches them: it went over 19,500
            -- messages while as many others arrived. Another sees what is there now;
            -- if that begins where this did, all of it waits behind others of its key.
            before := first_ready;
            look := first_look;
            continue;
        end if;
        -- half of what was asked for is better than to look through more for the rest
        exit when cardinality(ids) >= (max_messages + 1) / 2 or seen < look or expired
            or cardinality(ids) > 0 and look > 1000;
        -- Others had them locked, or they waited behind others of their key.
        look := look * 8;
    end loop;
    perform tide.inbox_start_at(settings.id, start.whole, begun, first_ready, first_due);
end
$$;
comment on function tide.inbox_candidates(tide.inbox, text, integer, boolean) is
'Messages of an inbox that a worker may have, their rows locked; and, if asked, whether there are leases whose time has passed.';

-- Where a claim begins to look. Before it lie, in the indexes, entries of what
-- is done; under an old snapshot nothing removes them, and to walk over all of
-- them costs more with each message. So a session remembers where it found the
-- first message, in a setting, and begins a little before that: messages of
-- transactions that were open at the time have lower ids or earlier times. As
-- that little may be too little, it looks from the beginning when it found
-- nothing, and every five seconds; more seldom where that takes long. With once
-- a second a worker that claims every other second did so each time.
create or replace function tide.inbox_start(
    inbox_id    integer,
    at          timestamptz,
    out id      bigint,
    out due     timestamptz,
    out whole   boolean,
    out cheap   boolean
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    known text[] := string_to_array(current_setting('tide.inbox_' || inbox_id, true), ' ');
begin
    -- whoever writes something else into it claims from the beginning
    if known[1] ~ '^\d{1,18}$' and known[2] ~ '^\d{1,12}$' and known[3] ~ '^\d{1,12}$' and known[4] ~ '^\d{1,12}$'
        and extract(epoch from at) between known[3]::bigint and known[4]::bigint
    then
        id := known[1]::bigint;
        due := to_timestamp(known[2]::bigint);
        whole := false;
        -- see inbox_start_at: the last whole look took ten milliseconds at most
        cheap := known[4]::bigint - known[3]::bigint <= 7;
    else
        id := 0;
        due := '-infinity';
        whole := true;
        cheap := false;
    end if;
end
$$;
comment on function tide.inbox_start(integer, timestamptz) is
'From which message on a claim of this session looks.';

create or replace function tide.inbox_start_at(
    inbox_id    integer,
    whole       boolean,
    begun       timestamptz,
    first_ready bigint,
    first_due   timestamptz
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    known text[];
    took  interval := clock_timestamp() - begun;
begin
    if whole then
        known[3] := floor(extract(epoch from begun))::bigint;
        known[4] := floor(extract(epoch from begun + interval '5 seconds' + 200 * took))::bigint;
    else
        known := string_to_array(current_setting('tide.inbox_' || inbox_id, true), ' ');
    end if;
    perform set_config('tide.inbox_' || inbox_id, concat_ws(' ',
        greatest(0, coalesce(first_ready, 0) - 2000),
        floor(extract(epoch from least(first_due, begun) - interval '5 seconds'))::bigint,
        known[3], known[4]), false);
end
$$;
comment on function tide.inbox_start_at(integer, boolean, timestamptz, bigint, timestamptz) is
'Remembers in the session where the first message was.';

-- functions/inbox_lease.sql

-- What a worker says about messages it has claimed. The token proves that it
-- has them still. Locks: the messages' rows until commit.

-- Changes rows that a token holds, and fails when one of them is not held by
-- it any more: then nothing of the transaction is to happen.
create or replace function tide.inbox_with_lease(
    inbox       text,
    lease_token uuid,
    ids         bigint[],
    change      text,
    pause       interval default null,
    again       boolean  default true
) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- As in tide.inbox_claim.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
set intervalstyle = 'postgres'
as $$
declare
    settings  tide.inbox;
    statement text;
    changed   bigint[];
    lost      bigint[];
begin
    if lease_token is null or ids is null or array_position(ids, null) is not null then
        raise exception using
            errcode = '22004',
            message = format('%s of inbox "%s" %s null', case when lease_token is null then 'lease_token for messages' else 'ids of messages' end,
                inbox, case when lease_token is null then 'is' else 'are or contain' end),
            hint = 'Give what tide.inbox_claim returned.';
    end if;
    select i.* into settings from tide.inbox i where i.name = inbox_with_lease.inbox;
    if not found then
        perform tide.inbox_id(inbox);
    end if;
    -- Once: unlike others, a message that is leased is never moved to another part.
    -- Not distinct from, so that the index of leased messages is not read whole for
    -- it: while few are leased that seems cheap, and the plan is kept.
    statement := format(
        'with changed as (
            update %s m set %s
            where m.id = any($1) and num_nonnulls(m.processed_at, m.dead_at) < 1 and m.lease_token is not distinct from $2
            returning m.id
        )
        select coalesce(array_agg(c.id), ''{}'') from changed c',
        tide.inbox_source(settings), change);
    if again then
        execute format('execute %I (%L, %L, %L)', tide.inbox_prepare(statement, 'bigint[], pg_catalog.uuid, interval'), ids, lease_token, pause)
        into changed;
    else
        execute statement into changed using ids, lease_token, pause;
    end if;
    if cardinality(changed) < cardinality(ids) then
        lost := array(select i from unnest(ids) i except select c from unnest(changed) c);
        if cardinality(lost) > 0 then
            perform tide.inbox_refuse_lease(inbox, lease_token, lost);
        end if;
    end if;
    return cardinality(changed);
end
$$;
comment on function tide.inbox_with_lease(text, uuid, bigint[], text, interval, boolean) is
'Changes messages that a lease holds; an error when it does not hold all of them. Again says that the same change will be made again, to other messages, so that it is kept prepared.';

-- Says of the first of the messages why the lease is not good for it.
create or replace function tide.inbox_refuse_lease(inbox text, lease_token uuid, ids bigint[]) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    first bigint := (select min(i) from unnest(ids) i);
    found record;
    why   text;
begin
    execute format('select m.id, m.processed_at, m.dead_at, m.leased_by, m.lease_token from tide.%I m where m.inbox_id = $1 and m.id = $2', inbox || '_inbox')
    into found
    using tide.inbox_id(inbox), first;
    why := case
        when found.id is null then 'there is no such message'
        when found.processed_at is not null then format('it was processed at %s', found.processed_at)
        when found.dead_at is not null then format('it became a dead letter at %s', found.dead_at)
        when found.lease_token is not null then format('worker "%s" has it now', found.leased_by)
        else 'nobody has it now'
    end;
    raise exception using
        errcode = 'TD001',
        message = format('lease %s of inbox "%s" was lost for %s: message %s, %s', lease_token, inbox,
            case when cardinality(ids) = 1 then 'one message' else cardinality(ids) || ' messages' end, first, why),
        hint = 'Roll back what was done for it; whoever has it now does it. Give longer leases, or extend them with tide.inbox_extend.';
end
$$;
comment on function tide.inbox_refuse_lease(text, uuid, bigint[]) is
'Says why a lease is not good for messages.';

create or replace function tide.inbox_complete(inbox text, lease_token uuid, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.inbox_with_lease(inbox, lease_token, ids,
        'processed_at = clock_timestamp(), next_attempt_at = null, dead_at = null, lease_token = null, leased_by = null');
end
$$;
comment on function tide.inbox_complete(text, uuid, bigint[]) is
'Marks claimed messages as processed, in the caller''s transaction; returns how many. An error (TD001) when the lease was lost for one of them, so that the transaction''s effects do not happen twice.
Example: select tide.inbox_complete(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[42, 43]);';

create or replace function tide.inbox_extend(inbox text, lease_token uuid, ids bigint[], lease interval default '30 seconds') returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tide.inbox_check_lease(inbox, lease);
    return tide.inbox_with_lease(inbox, lease_token, ids, 'next_attempt_at = clock_timestamp() + $3', lease);
end
$$;
comment on function tide.inbox_extend(text, uuid, bigint[], interval) is
'Lets a lease on claimed messages last for so long from now; returns how many. An error (TD001) when it was lost for one of them.
Example: select tide.inbox_extend(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[42, 43], ''2 minutes'');';

create or replace function tide.inbox_release(inbox text, lease_token uuid, ids bigint[], retry_in interval default '0') returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    released bigint;
begin
    perform tide.inbox_check_retry(inbox, ids, retry_in);
    released := tide.inbox_with_lease(inbox, lease_token, ids,
        'next_attempt_at = clock_timestamp() + $3, attempts = m.attempts - 1, lease_token = null, leased_by = null', coalesce(retry_in, interval '0'));
    if released > 0 and coalesce(retry_in, interval '0') = interval '0' then
        perform pg_notify('tide_inbox_' || inbox, '');
    end if;
    return released;
end
$$;
comment on function tide.inbox_release(text, uuid, bigint[], interval) is
'Gives claimed messages back, to be had again at once or after retry_in; the attempt does not count. Returns how many. An error (TD001) when the lease was lost for one of them.
Example: select tide.inbox_release(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[43], retry_in => ''10 minutes'');';

create or replace function tide.inbox_fail(
    inbox       text,
    lease_token uuid,
    ids         bigint[],
    error       text,
    retry_in    interval default null,
    give_up     boolean  default false
) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    settings tide.inbox;
begin
    perform tide.inbox_check_retry(inbox, ids, retry_in);
    select i.* into settings from tide.inbox i where i.id = tide.inbox_id(inbox);
    perform tide.inbox_with_lease(inbox, lease_token, ids, format(
        'last_error = %L, lease_token = null, leased_by = null,
        dead_at = case when %L or m.attempts >= %s then clock_timestamp() end,
        next_attempt_at = clock_timestamp() + coalesce($3, tide.inbox_backoff(m.attempts))',
        coalesce(error, ''), coalesce(give_up, false), settings.max_attempts), retry_in, again => false);
    return tide.inbox_count_dead(inbox, ids);
end
$$;
comment on function tide.inbox_fail(text, uuid, bigint[], text, interval, boolean) is
'Notes that processing claimed messages failed. They are tried again (after retry_in, else after a pause that doubles with each failure), or are dead letters: those that were claimed max_attempts times, and all with give_up. Returns how many became dead letters. An error (TD001) when the lease was lost for one of them.
Example: select tide.inbox_fail(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[42], ''card declined'', retry_in => ''5 minutes'');';

-- How many of the messages are dead letters.
create or replace function tide.inbox_count_dead(inbox text, ids bigint[]) returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    dead bigint;
begin
    execute format('select count(*) from tide.%I m where m.inbox_id = $1 and m.id = any($2) and m.dead_at is not null', inbox || '_inbox')
    into dead
    using tide.inbox_id(inbox), ids;
    return dead;
end
$$;
comment on function tide.inbox_count_dead(text, bigint[]) is
'How many of an inbox''s messages are dead letters.';

create or replace function tide.inbox_check_retry(inbox text, ids bigint[], retry_in interval) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if retry_in < interval '0' then
        raise exception using
            errcode = '22023',
            message = format('retry_in %s for messages %s of inbox "%s" is negative', retry_in, ids, inbox),
            hint = 'Give the pause before the next attempt, or null to have it chosen.';
    end if;
end
$$;
comment on function tide.inbox_check_retry(text, bigint[], interval) is
'Refuses a pause that makes no sense.';

-- functions/inbox_maintain.sql

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

-- functions/inbox_mark.sql

-- What a worker says about messages. Locks: the messages' rows until commit.

create or replace function tide.inbox_mark_processed(inbox text, id bigint) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.inbox_mark_processed(inbox, array[id]) > 0;
end
$$;
comment on function tide.inbox_mark_processed(text, bigint) is
'Marks a message as processed, in the caller''s transaction; false when it was already, or is not there.
Example: select tide.inbox_mark_processed(''payment_triggers'', 42);';

create or replace function tide.inbox_mark_processed(inbox text, event_id text) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.inbox_mark_processed(inbox, tide.inbox_message_id(inbox, event_id));
end
$$;
comment on function tide.inbox_mark_processed(text, text) is
'Marks the message with an event id as processed, in the caller''s transaction; false when it was already, or is not there.
Example: select tide.inbox_mark_processed(''payment_triggers'', ''1f0c2d3e-0000-4000-8000-000000000000'');';

create or replace function tide.inbox_mark_processed(inbox text, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- Rows are found by their keys, whatever statistics say of the inbox: taken while
-- it was small they would have it read whole.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    inbox_id  integer := tide.inbox_id(inbox);
    marked    bigint;
    found_now bigint;
begin
    if ids is null then
        raise exception using
            errcode = '22004',
            message = format('ids of messages of inbox "%s" is null', inbox),
            hint = 'Give the ids that tide.inbox_pending returned.';
    end if;
    marked := 0;
    -- Twice, if need be: a message may have been moved to another part while its
    -- row was waited for, and only the next statement sees it there.
    for look in 1..2 loop
        execute format(
            'update tide.%I m
            set processed_at = clock_timestamp(), next_attempt_at = null, dead_at = null, lease_token = null, leased_by = null
            where m.inbox_id = $1 and m.id = any($2) and m.processed_at is null',
            inbox || '_inbox')
        using inbox_id, ids;
        get diagnostics found_now = row_count;
        marked := marked + found_now;
        exit when marked >= cardinality(ids);
    end loop;
    return marked;
end
$$;
comment on function tide.inbox_mark_processed(text, bigint[]) is
'Marks messages as processed, in the caller''s transaction; returns how many were not yet.
Example: select tide.inbox_mark_processed(''payment_triggers'', array[42, 43]);';

-- The id of the message with an event id; null when there is none.
create or replace function tide.inbox_message_id(inbox text, event_id text) returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    inbox_id integer := tide.inbox_id(inbox);
    id       bigint;
begin
    execute format('select m.id from tide.%I m where m.inbox_id = $1 and m.event_id = $2', inbox || '_inbox')
    into id
    using inbox_id, event_id;
    return id;
end
$$;
comment on function tide.inbox_message_id(text, text) is
'The id of the message with an event id in an inbox, or null.';

-- The pause before the next attempt: a second, doubled with each failure, an
-- hour at most, and of that a random part above the half, so that messages
-- that failed at the same time do not come back at the same time.
create or replace function tide.inbox_backoff(attempts integer) returns interval
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select least(3600, power(2, least(attempts - 1, 12))) * (0.5 + random() / 2) * interval '1 second'
$$;
comment on function tide.inbox_backoff(integer) is
'How long a message waits after that many failures.';

create or replace function tide.inbox_mark_failed(
    inbox    text,
    id       bigint,
    error    text,
    retry_in interval default null
) returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- As in tide.inbox_mark_processed.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    settings tide.inbox;
    message  tide.inbox_message;
begin
    select i.* into settings from tide.inbox i where i.id = tide.inbox_id(inbox);
    if retry_in < interval '0' then
        raise exception using
            errcode = '22023',
            message = format('retry_in %s for message %s of inbox "%s" is negative', retry_in, id, inbox),
            hint = 'Give the pause before the next attempt, or null to have it chosen.';
    end if;
    -- Twice, if need be, as in tide.inbox_mark_processed.
    for look in 1..2 loop
        execute format('select m.* from tide.%I m where m.inbox_id = $1 and m.id = $2 for no key update', inbox || '_inbox')
        into message
        using settings.id, id;
        exit when message.id is not null;
    end loop;
    if message.id is null then
        raise exception using
            errcode = '42704',
            message = format('inbox "%s" has no message %s', inbox, coalesce(id::text, 'null')),
            hint = 'Give an id that tide.inbox_pending returned.';
    end if;
    if message.processed_at is not null then
        raise exception using
            errcode = '55000',
            message = format('message %s of inbox "%s" is already processed', id, inbox),
            hint = 'tide.inbox_replay makes it pending again.';
    end if;
    if message.dead_at is not null then
        return 'dead';
    end if;

    -- That of a message which was claimed has been counted.
    if message.lease_token is null then
        message.attempts := message.attempts + 1;
    end if;
    if message.attempts >= settings.max_attempts then
        message.dead_at := clock_timestamp();
    else
        message.next_attempt_at := clock_timestamp() + coalesce(retry_in, tide.inbox_backoff(message.attempts));
    end if;
    execute format(
        'update tide.%I m
        set attempts = $3, last_error = $4, next_attempt_at = $5, dead_at = $6, lease_token = null, leased_by = null
        where m.inbox_id = $1 and m.id = $2',
        inbox || '_inbox')
    using settings.id, id, message.attempts, coalesce(error, ''), message.next_attempt_at, message.dead_at;
    return case when message.dead_at is null then 'pending' else 'dead' end;
end
$$;
comment on function tide.inbox_mark_failed(text, bigint, text, interval) is
'Notes that processing a message failed. Returns ''pending'' when it will be tried again (after retry_in, else after a pause that doubles with each failure), ''dead'' when it has failed max_attempts times.
Example: select tide.inbox_mark_failed(''payment_triggers'', 42, ''card declined'', retry_in => ''5 minutes'');';

create or replace function tide.inbox_mark_failed(
    inbox    text,
    event_id text,
    error    text,
    retry_in interval default null
) returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    id bigint := tide.inbox_message_id(inbox, event_id);
begin
    if id is null then
        raise exception using
            errcode = '42704',
            message = format('inbox "%s" has no message with event id "%s"', inbox, event_id),
            hint = 'Give an event_id that tide.inbox_pending returned.';
    end if;
    return tide.inbox_mark_failed(inbox, id, error, retry_in);
end
$$;
comment on function tide.inbox_mark_failed(text, text, text, interval) is
'Notes that processing the message with an event id failed; like the form with an id.
Example: select tide.inbox_mark_failed(''payment_triggers'', ''1f0c2d3e-0000-4000-8000-000000000000'', ''card declined'');';

-- Locks: the messages' rows; where the order of keys is kept also the inbox's
-- advisory lock that claims share, for three seconds at most, so that no claim
-- that has not seen a message come back gives out a later one of its key, or
-- the other way round.
create or replace function tide.inbox_replay(inbox text, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
declare
    inbox_id integer := tide.inbox_id(inbox);
    replayed bigint;
begin
    if ids is null then
        raise exception using
            errcode = '22004',
            message = format('ids of messages of inbox "%s" is null', inbox),
            hint = format('Name them, for instance: array(select id from tide.%I where dead_at is not null).', inbox || '_inbox');
    end if;
    if tide.inbox_is_ordered(inbox) then
        perform pg_advisory_xact_lock(1953063017, inbox_id);
    end if;
    execute format(
        'update tide.%I m
        set processed_at = null, dead_at = null, next_attempt_at = clock_timestamp(),
            attempts = case when m.processed_at is null and m.dead_at is null then m.attempts else 0 end
        where m.inbox_id = $1 and m.id = any($2)
            and (m.processed_at is not null or m.dead_at is not null or m.next_attempt_at > clock_timestamp() and m.lease_token is null)',
        inbox || '_inbox')
    using inbox_id, ids;
    get diagnostics replayed = row_count;
    if replayed > 0 then
        perform pg_notify('tide_inbox_' || inbox, '');
    end if;
    return replayed;
exception
    when lock_not_available then
        raise exception using
            errcode = '55P03',
            message = format('messages of inbox "%s" were not replayed: transactions that have claimed messages are open', inbox),
            hint = 'Try again when they have ended; pg_stat_activity shows them.';
end
$$;
comment on function tide.inbox_replay(text, bigint[]) is
'Makes processed or dead messages pending again, their attempts counted from zero, and ends the pause of those that wait after a failure; returns how many.
Example: select tide.inbox_replay(''payment_triggers'', array(select id from tide."payment_triggers_inbox" where dead_at is not null));';

-- functions/inbox_memory.sql

-- What an inbox remembers of messages that are gone, and how the relay asks.

-- A uuid is its own key; of any other event id it is half of the SHA-256.
-- Without a SET clause, to be put into the statements that call it; its names
-- were bound when it was created.
create or replace function tide.inbox_memory_key(event_id text) returns uuid
language sql
stable
begin atomic
    select case
        when event_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then event_id::uuid
        else encode(substr(sha256(convert_to(event_id, 'UTF8')), 1, 16), 'hex')::uuid
    end;
end;
comment on function tide.inbox_memory_key(text) is
'What an inbox keeps of an event id when the message is gone: 16 bytes.';

-- Which of the event ids are known outside the current part, in their order;
-- null when there is nothing but the current part.
--
-- The statement is planned anew each time, for what the parts hold then, and
-- without sequential scans: a plan made while a part was empty would read it
-- whole for each event id when it is full.
create or replace function tide.inbox_known(inbox_id integer, current_part integer, event_ids text[]) returns boolean[]
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    lookups text;
    known   boolean[];
begin
    select string_agg(
        case p.kind
            when 'messages' then format('coalesce((select true from tide.inbox_message_%1$s_%2$s o
                where o.inbox_id = %1$s and o.event_id = m.event_id limit 1), false)', p.inbox_id, p.part)
            else format('coalesce((select true from tide.inbox_memory_%1$s_%2$s o
                where o.event = m.key limit 1), false)', p.inbox_id, p.part)
        end,
        ' or ' order by p.opened_at desc)
    into lookups
    from tide.inbox_part p
    where p.inbox_id = inbox_known.inbox_id
        and p.opened_at is not null
        and (p.kind = 'memory' or p.part <> current_part);
    if lookups is null then
        return null;
    end if;
    execute format(
        'select array_agg(%s order by m.place)
        from (select e.event_id, e.place, tide.inbox_memory_key(e.event_id) as key
              from unnest($1) with ordinality e (event_id, place)) m', lookups)
    into known
    using event_ids;
    return known;
end
$$;
comment on function tide.inbox_known(integer, integer, text[]) is
'Which event ids an inbox knows from older messages, or remembers.';

-- Called by a relay before it inserts, in the same transaction: says which
-- part takes the messages, and which of them are known already.
--
-- Locks: the inbox's advisory lock, shared, to the end of the transaction. The
-- part does not change while somebody has it, so whoever inserts into the next
-- part sees all that was inserted into this one: two relays at the change of
-- parts cannot both insert an event.
--
-- oldest and newest are the times at which the batch's events were published;
-- null when not all are known, or not to be relied upon. An event that is
-- younger than the part before, with an hour for clocks that differ, cannot be
-- in it, nor in any memory: then nothing is looked up but the current part's
-- unique index. Times from the future are written down and count likewise.
create or replace function tide.inbox_enter(
    inbox_id    integer,
    event_ids   text[],
    oldest      timestamptz,
    newest      timestamptz,
    out part    integer,
    out known   boolean[],
    out version xid8
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    rotation tide.inbox_rotation;
begin
    -- Under a snapshot from before the lock, what others inserted would be overlooked.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = '25001',
            message = format('messages are inserted into an inbox in READ COMMITTED only, and this transaction is %s',
                upper(current_setting('transaction_isolation'))),
            hint = 'Begin it with: begin isolation level read committed.';
    end if;
    perform pg_advisory_xact_lock_shared(1953063015, inbox_id);
    select r.* into rotation from tide.inbox_rotation r where r.inbox_id = inbox_enter.inbox_id;
    part := rotation.part;
    version := rotation.changed_by;
    if newest > clock_timestamp() + interval '1 hour' and newest > coalesce(rotation.latest, '-infinity') then
        update tide.inbox_rotation r
        set latest = newest + interval '1 hour'
        where r.inbox_id = inbox_enter.inbox_id and newest > coalesce(r.latest, '-infinity');
    end if;
    if oldest is null or oldest <= rotation.horizon then
        known := tide.inbox_known(inbox_id, part, event_ids);
    end if;
end
$$;
comment on function tide.inbox_enter(integer, text[], timestamptz, timestamptz) is
'Called by a relay before it inserts into an inbox: which part takes the messages, which of them are known.';

-- Called by a relay after it inserted. Rows that were removed by hand between
-- the look-up and the insert were in neither: then the transaction fails, and
-- the relay starts it again.
create or replace function tide.inbox_leave(inbox_id integer, version xid8) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
        from tide.inbox_rotation r
        where r.inbox_id = inbox_leave.inbox_id and r.changed_by is distinct from inbox_leave.version)
    then
        raise exception using
            errcode = '40001',
            message = format('messages of inbox %s were removed meanwhile', inbox_id),
            hint = 'Run the transaction again.';
    end if;
end
$$;
comment on function tide.inbox_leave(integer, xid8) is
'Called by a relay after it inserted into an inbox: fails when messages were removed meanwhile.';

-- Says that messages leave their part in another way than by its exchange, so
-- that relays which looked before and insert now start again; and that events
-- as young as the horizon may be in the memory. Once a transaction.
-- Locks: the inbox's row of tide.inbox_rotation.
create or replace function tide.inbox_changed(inbox_id integer, horizon timestamptz) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update tide.inbox_rotation r
    set changed_by = pg_current_xact_id(),
        horizon = greatest(r.horizon, inbox_changed.horizon)
    where r.inbox_id = inbox_changed.inbox_id and r.changed_by is distinct from pg_current_xact_id();
end
$$;
comment on function tide.inbox_changed(integer, timestamptz) is
'Makes relays look for event ids in an inbox''s memory.';

-- The time after which no event was published that an inbox has received by now.
create or replace function tide.inbox_horizon(latest timestamptz) returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select greatest(clock_timestamp() + interval '1 hour', latest)
$$;
comment on function tide.inbox_horizon(timestamptz) is
'The time after which no event was published that an inbox has received by now; an hour is for clocks that differ.';

-- From now on something is in the current part of the memory.
create or replace function tide.inbox_memory_open(inbox_id integer) returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update tide.inbox_part p
    set opened_at = clock_timestamp()
    where p.inbox_id = inbox_memory_open.inbox_id and p.kind = 'memory' and p.opened_at is null
        and p.part = (select r.memory_part from tide.inbox_rotation r where r.inbox_id = inbox_memory_open.inbox_id)
$$;
comment on function tide.inbox_memory_open(integer) is
'Notes that something is in the current part of an inbox''s memory.';

-- Whoever deletes messages by hand leaves their event ids in the memory. The
-- trigger of the relation that was named in the statement gets all rows.
create or replace function tide.inbox_remember_deleted() returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tide.inbox_memory_open(r.inbox_id),
            tide.inbox_changed(r.inbox_id, tide.inbox_horizon(r.latest))
    from tide.inbox_rotation r
    where r.inbox_id in (select g.inbox_id from gone g);
    insert into tide.inbox_memory (event, inbox_id, part)
    select tide.inbox_memory_key(g.event_id), r.inbox_id, r.memory_part
    from gone g
    join tide.inbox_rotation r on r.inbox_id = g.inbox_id;
    return null;
end
$$;
comment on function tide.inbox_remember_deleted() is
'Keeps the event ids of messages that are deleted.';

-- Before a part is truncated: what is not yet in the memory goes there.
create or replace function tide.inbox_remember_truncated() returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    of_inbox integer := split_part(tg_table_name, '_', 3);
    of_part  integer := split_part(tg_table_name, '_', 4);
begin
    perform tide.inbox_changed(of_inbox, tide.inbox_horizon((select r.latest from tide.inbox_rotation r where r.inbox_id = of_inbox)));
    perform tide.inbox_remember(of_inbox, of_part, null);
    -- The part begins anew, and may get messages with lower ids.
    update tide.inbox_part p
    set remembered_id = 0
    where p.inbox_id = of_inbox and p.kind = 'messages' and p.part = of_part;
    return null;
end
$$;
comment on function tide.inbox_remember_truncated() is
'Keeps the event ids of messages that are truncated.';

-- Copies event ids of a part into the memory, where the last copy stopped;
-- returns how many.
create or replace function tide.inbox_remember(inbox_id integer, part integer, max_messages bigint) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    copied bigint;
    last   bigint;
begin
    execute format(
        'with wanted as materialized (
            select m.id, m.event_id
            from tide.inbox_message_%1$s_%2$s m
            where m.inbox_id = %1$s
                and m.id > (select p.remembered_id from tide.inbox_part p
                            where p.inbox_id = %1$s and p.kind = ''messages'' and p.part = %2$s)
            order by m.id
            limit $1
        ),
        added as (
            insert into tide.inbox_memory (event, inbox_id, part)
            select tide.inbox_memory_key(w.event_id), r.inbox_id, r.memory_part
            from wanted w
            join tide.inbox_rotation r on r.inbox_id = %1$s
        )
        select count(*), max(w.id) from wanted w', inbox_id, part)
    into copied, last
    using max_messages;
    if copied > 0 then
        perform tide.inbox_memory_open(inbox_id);
    end if;
    update tide.inbox_part p
    set remembered_id = last
    where copied > 0 and p.inbox_id = inbox_remember.inbox_id and p.kind = 'messages' and p.part = inbox_remember.part;
    return copied;
end
$$;
comment on function tide.inbox_remember(integer, integer, bigint) is
'Copies event ids of one part of an inbox into its memory.';

-- functions/inbox_partition.sql

-- The relation "<name>_inbox", its three partitions, and those of its memory.

-- Locks: SHARE UPDATE EXCLUSIVE on tide.inbox_message and tide.inbox_memory;
-- for an inbox of version 1.0, ACCESS EXCLUSIVE on tide.inbox_message.
create or replace function tide.inbox_create_partition(inbox_id integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass(format('tide.%I', leaf)) is not null then
        perform tide.inbox_convert_partition(inbox_id, leaf);
    end if;
    insert into tide.inbox_rotation (inbox_id) values (inbox_create_partition.inbox_id);
    execute format('create table tide.%I (like tide.inbox_message including defaults including constraints)
        partition by list (part)', leaf);
    for part in 0..2 loop
        perform tide.inbox_create_part(inbox_id, part, leaf);
    end loop;
    execute tide.inbox_delete_trigger(leaf);
    execute format('alter table tide.inbox_message attach partition tide.%I for values in (%s)', leaf, inbox_id);
    execute format('comment on table tide.%I is %L', leaf,
        'Messages of one inbox of pg_tide. Mark them with tide.inbox_mark_processed and tide.inbox_mark_failed.');
    perform tide.copy_grants('tide.inbox_message', format('tide.%I', leaf)::regclass);
    perform tide.extension_release(inbox_id, leaf);
end
$$;
comment on function tide.inbox_create_partition(integer, text) is
'Makes the relation that holds the messages of one inbox, and its memory.';

-- One of the three partitions, and of the memory's three.
create or replace function tide.inbox_create_part(inbox_id integer, part integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    messages text := format('inbox_message_%s_%s', inbox_id, part);
    memory   text := format('inbox_memory_%s_%s', inbox_id, part);
begin
    if to_regclass('tide.' || messages) is null then
        execute format('create table tide.%I (like tide.inbox_message including defaults including constraints)', messages);
        execute format('alter table tide.%I
            add constraint %I primary key (inbox_id, id), add constraint %I unique (inbox_id, event_id)',
            messages, messages || '_pkey', messages || '_event_id_key');
        -- Written so that the planner has no statistics for it: those of a time when
        -- nothing was pending would make it read and sort a whole backlog.
        execute format('create index %I on tide.%I (id) where num_nonnulls(processed_at, dead_at) < 1', messages || '_pending_idx', messages);
        execute format('create index %I on tide.%I (id) where dead_at is not null', messages || '_dead_idx', messages);
    end if;
    perform tide.inbox_create_lease_indexes(inbox_id, messages);
    execute tide.inbox_delete_trigger(messages);
    execute format('create trigger remember_truncated before truncate on tide.%I
        when (current_setting(''tide.moving'', true) is distinct from ''on'')
        execute function tide.inbox_remember_truncated()', messages);
    execute format('alter table tide.%I attach partition tide.%I for values in (%s)', leaf, messages, part);
    perform tide.copy_grants('tide.inbox_message', format('tide.%I', messages)::regclass);

    execute format('create table tide.%I (like tide.inbox_memory including constraints)', memory);
    execute format('create index %I on tide.%I (event)', memory || '_idx', memory);
    execute format('alter table tide.inbox_memory attach partition tide.%I for values from (%s, %s) to (%s, %s)',
        memory, inbox_id, part, inbox_id, part + 1);
    perform tide.copy_grants('tide.inbox_memory', format('tide.%I', memory)::regclass);

    insert into tide.inbox_part (inbox_id, kind, part, opened_at)
    select inbox_create_part.inbox_id, k.kind, inbox_create_part.part,
           case when k.kind = 'messages' and inbox_create_part.part = 0 then clock_timestamp() end
    from unnest(array['messages', 'memory']) k (kind);
end
$$;
comment on function tide.inbox_create_part(integer, integer, text) is
'Makes one of the three partitions of an inbox, and of its memory.';

-- What tide.inbox_claim looks for: messages that were never claimed; and those
-- that a lease or a pause holds back, by when that ends. Where the order of
-- keys is kept also which keys are held back, by a pause and by a lease, of
-- which a key has one: two workers of whom neither sees what the other takes
-- meet in that unique index. A row is in as few of them as possible, since
-- each claim makes an entry in each.
create or replace function tide.inbox_create_lease_indexes(inbox_id integer, messages text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Written so that the planner has no statistics for it, as the pending ones' index is.
    execute format('create index if not exists %I on tide.%I (id)
        where num_nonnulls(processed_at, dead_at, next_attempt_at) < 1', messages || '_ready_idx', messages);
    execute format('create index if not exists %I on tide.%I (next_attempt_at)
        where next_attempt_at is not null and num_nonnulls(processed_at, dead_at) < 1', messages || '_due_idx', messages);
    if (select i.ordered from tide.inbox i where i.id = inbox_create_lease_indexes.inbox_id) then
        execute format('create index if not exists %I on tide.%I (key, id)
            where next_attempt_at is not null and lease_token is null and num_nonnulls(processed_at, dead_at) < 1',
            messages || '_held_idx', messages);
        execute format('create unique index if not exists %I on tide.%I (key) where lease_token is not null',
            messages || '_leased_idx', messages);
    end if;
end
$$;
comment on function tide.inbox_create_lease_indexes(integer, text) is
'Makes the indexes of an inbox''s partition that workers'' leases need.';

-- The trigger that keeps the event ids of deleted messages. It fires for the
-- relation that a statement names, so each that may be named has it.
create or replace function tide.inbox_delete_trigger(relation text) returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format('create or replace trigger remember_deleted after delete on tide.%I
        referencing old table as gone
        when (current_setting(''tide.moving'', true) is distinct from ''on'')
        execute function tide.inbox_remember_deleted()', relation)
$$;
comment on function tide.inbox_delete_trigger(text) is
'The statement that makes the trigger which keeps event ids of deleted messages.';

-- The one partition that an inbox of version 1.0 has becomes the first of the
-- three: renamed, with everything in it. What others built upon it would go
-- along with it and miss the messages of the other two, so that is refused.
create or replace function tide.inbox_convert_partition(inbox_id integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass := format('tide.%I', leaf);
    part     text := format('inbox_message_%s_0', inbox_id);
    used_by  text;
    entry    record;
begin
    select string_agg(distinct pg_describe_object(d.classid, d.objid, 0), ', ') into used_by
    from (
        select coalesce(case when d.classid = 'pg_rewrite'::regclass then 'pg_class'::regclass end, d.classid) as classid,
               coalesce((select r.ev_class from pg_rewrite r where d.classid = 'pg_rewrite'::regclass and r.oid = d.objid), d.objid) as objid
        from pg_depend d
        where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.deptype = 'n'
    ) d;
    if used_by is not null then
        raise exception using
            errcode = '2BP01',
            message = format('relation tide."%s" cannot get its partitions: %s depends on it', leaf, used_by),
            hint = 'Drop that, upgrade, and create it again.';
    end if;
    execute format('alter table tide.inbox_message detach partition %s', relation);
    execute format('alter table %s rename to %I', relation, part);
    execute format('drop index tide.%I', (
        select c.relname
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        where i.indrelid = to_regclass('tide.' || part)
            and pg_get_expr(i.indpred, i.indrelid) like '%next_attempt_at IS NOT NULL%'));
    for entry in
        select i.indexrelid::regclass as index,
               part || case
                   when i.indisprimary then '_pkey'
                   when i.indisunique then '_event_id_key'
                   when pg_get_expr(i.indpred, i.indrelid) like '%num_nonnulls%' then '_pending_idx'
                   else '_dead_idx' end as name
        from pg_index i
        where i.indrelid = to_regclass('tide.' || part)
    loop
        execute format('alter index %s rename to %I', entry.index, entry.name);
    end loop;
    execute format('comment on table tide.%I is null', part);
end
$$;
comment on function tide.inbox_convert_partition(integer, text) is
'Makes the single partition of an inbox of version 1.0 the first of three.';

-- What is made while the extension's script runs becomes a member of it, and
-- a dump would leave it out. Partitions are none, however they were made.
create or replace function tide.extension_release(inbox_id integer, leaf text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    member regclass;
begin
    for member in
        select d.objid
        from pg_depend d
        join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass
        where e.extname = 'pg_tide' and d.deptype = 'e' and d.classid = 'pg_class'::regclass
            and d.objid in (
                select t.relid from pg_partition_tree(format('tide.%I', leaf)::regclass) t
                union all
                select to_regclass(format('tide.inbox_memory_%s_%s', inbox_id, part)) from generate_series(0, 2) part)
        order by d.objid
    loop
        execute format('alter extension pg_tide drop table %s', member);
    end loop;
end
$$;
comment on function tide.extension_release(integer, text) is
'Takes the partitions of an inbox out of the extension, so that dumps have them whole.';

-- functions/inbox_pending.sql

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

-- functions/maintain.sql

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

-- functions/names.sql

-- Names of outboxes, inboxes and pipelines: what they may look like.
-- No lock. Raises an error that names the kind, the name and the rule.
create or replace function tide.check_name(kind text, name text) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null then
        raise exception using
            errcode = '22004',
            message = format('%s name is null', kind),
            hint = format('Give the %s a name, for instance ''orders''.', kind);
    end if;
    if length(name) > 48 then
        raise exception using
            errcode = '42622',
            message = format('%s name "%s…" has %s characters, and 48 are the most', kind, left(name, 60), length(name)),
            hint = 'Choose a shorter name.';
    end if;
    if name !~ '^[A-Za-z_][A-Za-z0-9_.-]*$' then
        raise exception using
            errcode = '42602',
            message = format('%s name "%s" is not allowed', kind, name),
            hint = 'A name starts with a letter of A to Z, a to z or an underscore and goes on with those, digits, dots and hyphens.';
    end if;
end
$$;
comment on function tide.check_name(text, text) is
'Refuses a name that an outbox, an inbox or a pipeline cannot have.';

-- The known name that is nearest to a mistyped one; null when none is near.
create or replace function tide.nearest_name(name text, known text[]) returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    best          text;
    best_distance integer := greatest(2, length(name) / 3) + 1;
    candidate     text;
    distance      integer;
begin
    foreach candidate in array coalesce(known, '{}') loop
        distance := tide.edit_distance(left(lower(name), 64), left(lower(candidate), 64));
        if distance < best_distance then
            best := candidate;
            best_distance := distance;
        end if;
    end loop;
    return best;
end
$$;
comment on function tide.nearest_name(text, text[]) is
'The known name nearest to a mistyped one, or null.';

-- Levenshtein's distance, one row of the table at a time.
create or replace function tide.edit_distance(a text, b text) returns integer
language plpgsql
immutable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    before  integer[];
    current integer[];
begin
    select array_agg(n) into before from generate_series(0, length(b)) n;
    for i in 1 .. length(a) loop
        current := array[i];
        for j in 1 .. length(b) loop
            current[j + 1] := least(
                current[j] + 1,
                before[j + 1] + 1,
                before[j] + case when substr(a, i, 1) = substr(b, j, 1) then 0 else 1 end);
        end loop;
        before := current;
    end loop;
    return before[length(b) + 1];
end
$$;
comment on function tide.edit_distance(text, text) is
'How many characters must change to turn one text into the other.';

-- A retention: how long rows are kept. '48' means 48 seconds to PostgreSQL and
-- hours to most who write it, so less than a minute is refused.
create or replace function tide.check_retention(kind text, name text, retention interval) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if retention is null then
        raise exception using
            errcode = '22004',
            message = format('retention of %s "%s" is null', kind, name),
            hint = 'Give an interval with its unit, for instance ''1 day''.';
    end if;
    -- Compared with a minute only: an interval of months has no exact length.
    if retention < interval '1 minute' then
        raise exception using
            errcode = '22023',
            message = format('retention %s of %s "%s" is shorter than a minute', retention, kind, name),
            hint = 'Write the unit: a bare number is seconds, so ''48'' means 48 seconds; ''48 hours'' or ''2 days'' may be what you want.';
    end if;
end
$$;
comment on function tide.check_retention(text, text, interval) is
'Refuses a retention that is null or shorter than a minute.';

-- Raises the error for a name that nothing has.
create or replace function tide.refuse_unknown(kind text, name text, known text[]) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    near text := tide.nearest_name(coalesce(name, ''), known);
begin
    if name is null then
        perform tide.check_name(kind, name);
    end if;
    raise exception using
        errcode = '42704',
        message = format('%s "%s" does not exist', kind, left(name, 100)),
        hint = case
            when near is not null then format('Did you mean "%s"?', near)
            when kind = 'outbox' then format('Create it with: select tide.outbox_create(%L);', left(name, 100))
            when kind = 'inbox' then format('Create it with: select tide.inbox_create(%L);', left(name, 100))
            else 'tide.relay_list_configs() lists the pipelines; tide.relay_set_outbox and tide.relay_set_inbox create one.'
        end;
end
$$;
comment on function tide.refuse_unknown(text, text, text[]) is
'Raises the error for a name that nothing has, with the nearest that something has.';

-- functions/node.sql

-- What this database is. Locks: one row of tide.node, when it is written.

-- The id of this database, made when something needs it first: a dump brings
-- the id along, and a row made at installation would collide with it. Where it
-- is made is written down at once, so that a copy which is made before any
-- relay came is noticed too.
create or replace function tide.node_id() returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    id uuid;
begin
    select n.database_id into id from tide.node n;
    if id is null then
        insert into tide.node (system_identifier, database_oid, timeline)
        select h.system_identifier, case when h.system_identifier is not null then h.database_oid end, h.timeline
        from tide.node_here() h
        on conflict (singleton) do nothing;
        select n.database_id into id from tide.node n;
    end if;
    return id;
end
$$;
comment on function tide.node_id() is
'The id that this database''s events carry in their source.';

-- Where we are. What a server refuses to tell is null, and is not compared.
create or replace function tide.node_here(
    out system_identifier bigint,
    out database_oid      oid,
    out timeline          integer
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    database_oid := (select d.oid from pg_database d where d.datname = current_database());
    begin
        system_identifier := (select s.system_identifier from pg_control_system() s);
    exception when others then
        system_identifier := null;
    end;
    begin
        -- the first eight digits of a segment's name
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    exception when others then
        timeline := null;
    end;
end
$$;
comment on function tide.node_here() is
'The cluster, the database and the timeline of the cluster''s log.';

-- Called by a relay at the start of each session. The first one writes down
-- which cluster and database it works in. When a later one finds others there,
-- the database is a copy or was restored: the xids in its rows and positions
-- belong to another history, so the incarnation grows and floor_id remembers up
-- to which id the rows come from there.
--
-- Another timeline means a promotion or a point-in-time restore. The history is
-- the same up to there, and prepared transactions of it may still commit, so
-- neither grows. noticed says in words what changed, to the one that saw it first.
create or replace function tide.node_check(
    system_identifier bigint,
    database_oid      oid,
    timeline          integer default null,
    out database_id   uuid,
    out incarnation   integer,
    out floor_id      bigint,
    out noticed       text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    node     tide.node;
    other    boolean;
    switched boolean;
begin
    if system_identifier is null or database_oid is null then
        raise exception using
            errcode = '22004',
            message = 'system_identifier or database_oid is null',
            hint = 'Take them from pg_control_system() and pg_database.';
    end if;
    perform tide.node_id();
    -- Twice at most: seen without a lock, and seen again under it. A lock each
    -- time would make relays wait for whoever configures in a long transaction.
    for attempt in 1..2 loop
        if attempt = 1 then
            select n.* into node from tide.node n;
        else
            select n.* into node from tide.node n for update;
        end if;
        other := (node.system_identifier, node.database_oid)
            is distinct from (node_check.system_identifier, node_check.database_oid);
        switched := node_check.timeline is not null and node.timeline is distinct from node_check.timeline;
        exit when not other and not switched;
    end loop;
    if other and node.system_identifier is not null then
        noticed := format('it was database %s of cluster %s and is now database %s of cluster %s: a copy, or restored or upgraded',
            node.database_oid, node.system_identifier, node_check.database_oid, node_check.system_identifier);
    elsif switched and node.timeline is not null then
        noticed := format('its log is on timeline %s after %s: a standby was promoted, or it was restored to a point in time',
            node_check.timeline, node.timeline);
    end if;
    if other or switched then
        update tide.node n
        set system_identifier = node_check.system_identifier,
            database_oid = node_check.database_oid,
            timeline = coalesce(node_check.timeline, n.timeline),
            incarnation = n.incarnation + (other and n.system_identifier is not null)::integer,
            floor_id = case
                when not other or n.system_identifier is null then n.floor_id
                else (select case when s.is_called then s.last_value else 0 end from tide.outbox_event_id_seq s)
            end
        returning n.* into node;
    end if;
    database_id := node.database_id;
    incarnation := node.incarnation;
    floor_id := node.floor_id;
end
$$;
comment on function tide.node_check(bigint, oid, integer) is
'Called by a relay at the start of a session: notices that the database was restored, copied or promoted, and returns its id and incarnation.';

-- The same from within, for functions that speak for a pipeline: who configures
-- a copy before any relay came must do so in the copy's own incarnation.
create or replace function tide.node_look() returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    here  record;
    found integer;
begin
    select * into here from tide.node_here();
    if here.system_identifier is null then
        perform tide.node_id();
        return (select n.incarnation from tide.node n);
    end if;
    select c.incarnation into found
    from tide.node_check(here.system_identifier, here.database_oid, here.timeline) c;
    return found;
end
$$;
comment on function tide.node_look() is
'Notices that the database was restored or copied, and returns its incarnation.';

create or replace function tide.node_renew() returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    id uuid;
begin
    perform tide.node_look();
    update tide.node n
    set database_id = gen_random_uuid()
    returning n.database_id into id;
    -- running relays read the id together with their pipelines
    update tide.pipeline p
    set version = p.version + 1;
    perform pg_notify('tide_relay', '');
    return id;
end
$$;
comment on function tide.node_renew() is
'Gives a copy of a database that lives on beside the original an id of its own: the source of its events and the default name of its durable consumers change with it.
Example: select tide.node_renew();';

-- functions/outbox.sql

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

-- functions/outbox_access.sql

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

-- functions/outbox_capture.sql

-- Capturing tables: inserts, updates and deletes become events.
--
-- These functions run with the caller's rights: only who owns a table may put
-- triggers on it, and PostgreSQL sees to that. What they write into
-- tide.outbox_capture goes through outbox_capture_set, which administrators of
-- tide may call, and nobody else.

-- The id of the capture whose triggers a table has; null when it has none.
create or replace function tide.outbox_capture_of(relation regclass) returns uuid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select split_part(encode(t.tgargs, 'escape'), '\000', 1)::uuid
        from pg_trigger t
        where t.tgrelid = relation
            and t.tgfoid in ('tide.outbox_capture_changed()'::regprocedure, 'tide.outbox_capture_truncated()'::regprocedure)
        limit 1);
end
$$;
comment on function tide.outbox_capture_of(regclass) is
'The id of the capture whose triggers a table has.';

-- Refuses what cannot be captured; returns the columns of the key.
create or replace function tide.outbox_capture_check_table(relation regclass, options jsonb) returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    class record;
    keys  text[];
begin
    select c.relkind, c.relpersistence, c.relispartition, c.relowner, n.nspname into class
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = relation;
    if not found then
        raise exception using
            errcode = case when relation is null then '22004' else '42P01' end,
            message = format('table %s does not exist', coalesce(relation::oid::text, 'null')),
            hint = 'Name an existing table, for instance ''public.orders''.';
    end if;
    if class.relkind not in ('r', 'p') then
        perform tide.outbox_capture_refuse_option(relation,
            format('it is %s', case class.relkind when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table' else 'no table' end),
            'Capture the tables that the data is written to, where they are.', '42809');
    end if;
    if class.nspname in ('pg_catalog', 'information_schema', 'tide') or class.relpersistence = 't' then
        perform tide.outbox_capture_refuse_option(relation, 'it is a temporary table, or one of the system or of tide',
            'Capture a table of your own.', '42809');
    end if;
    if class.relispartition then
        perform tide.outbox_capture_refuse_option(relation, format('it is a partition of "%s"', pg_partition_root(relation)::regclass),
            format('Capture that table: %s.', pg_partition_root(relation)::regclass), '42809');
    end if;
    if not pg_has_role(class.relowner, 'usage') then
        perform tide.outbox_capture_refuse_option(relation, format('role "%s" does not own it', current_user),
            format('Let its owner %I do so, who needs the role tide_admin too; or a member of both.', pg_get_userbyid(class.relowner)), '42501');
    end if;
    if jsonb_typeof(options -> 'key') = 'array' then
        keys := array(select jsonb_array_elements_text(options -> 'key'));
    elsif options ->> 'key' is not null then
        keys := array[options ->> 'key'];
    else
        keys := tide.outbox_capture_primary_key(relation);
    end if;
    if keys = '{}' then
        perform tide.outbox_capture_refuse_option(relation, 'it has no primary key',
            'Name the columns by which events keep their order: ''{"key": "order_id"}''. Or add a primary key.');
    end if;
    return keys;
end
$$;
comment on function tide.outbox_capture_check_table(regclass, jsonb) is
'Refuses a table that cannot be captured; the columns of its key.';

create or replace function tide.outbox_capture_primary_key(relation regclass) returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select a.attname::text
        from pg_index i
        cross join unnest(i.indkey::int2[]) with ordinality k (attnum, place)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where i.indrelid = relation and i.indisprimary and k.place <= i.indnkeyatts
        order by k.place)
$$;
comment on function tide.outbox_capture_primary_key(regclass) is
'The columns of a table''s primary key, in its order.';

-- Locks: SHARE ROW EXCLUSIVE on the table and its partitions: it waits for
-- those who write, and they wait for it.
create or replace function tide.outbox_capture("table" regclass, outbox text, options jsonb default '{}') returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    keys    text[] := tide.outbox_capture_check_table("table", options);
    named   jsonb;
    capture uuid;
    is_new  boolean;
    part    regclass;
begin
    -- Before the columns are looked at: nobody alters them from here on.
    execute format('lock table %s in share row exclusive mode', "table");
    named := tide.outbox_capture_check_options("table", options, keys);
    select s.capture, s.is_new into capture, is_new
    from tide.outbox_capture_set("table", outbox,
        coalesce(options ->> 'stream', (select c.relname::text from pg_class c where c.oid = "table")), keys, named, options) s;
    for part in
        -- Triggers of statements belong to the relation that the statement
        -- names: a partition that is written to by its own name has its own.
        select t.relid from pg_partition_tree("table") t join pg_class c on c.oid = t.relid and c.relkind in ('r', 'p')
        union
        select "table"
    loop
        perform tide.outbox_capture_triggers(part, capture, case
            when part <> "table" then 'partition'
            when (select c.relkind from pg_class c where c.oid = "table") = 'p' then 'partitioned'
        end);
    end loop;
    return is_new;
end
$$;
comment on function tide.outbox_capture(regclass, text, jsonb) is
'Publishes inserts, updates and deletes of a table to an outbox from now on; called again, changes how. Says whether the table was not captured before. See docs/capture.md for the options.
Example: select tide.outbox_capture(''orders'', ''order_events'', ''{"exclude": ["notes"], "mask": ["email"]}'');';

-- Makes a relation's triggers anew.
create or replace function tide.outbox_capture_triggers(relation regclass, capture uuid, role text) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set client_min_messages = warning
as $$
declare
    arguments text := concat_ws(', ', quote_literal(capture), quote_literal(role));
    made      record;
begin
    for made in
        select *
        from (values
            ('tide_capture_began', 'before insert or update or delete', '', 'began'),
            ('tide_capture_insert', 'after insert', 'referencing new table as tide_rows', 'changed'),
            ('tide_capture_update', 'after update', 'referencing old table as tide_old new table as tide_rows', 'changed'),
            ('tide_capture_delete', 'after delete', 'referencing old table as tide_rows', 'changed'),
            ('tide_capture_truncate', 'before truncate', '', 'truncated'),
            ('tide_capture_truncated', 'after truncate', '', 'truncated')
        ) t (name, event, tables, routine)
    loop
        execute format('drop trigger if exists %I on %s', made.name, relation);
        execute format('create trigger %I %s on %s %s for each statement execute function tide.outbox_capture_%s(%s)',
            made.name, made.event, relation, made.tables, made.routine, arguments);
    end loop;
end
$$;
comment on function tide.outbox_capture_triggers(regclass, uuid, text) is
'Makes the triggers of a captured table or partition.';

-- Writes a capture's row. The outbox is locked against being dropped. How
-- columns become JSON is found out here, with the rights that the triggers
-- will have: nobody can hand it in.
create or replace function tide.outbox_capture_set(
    relation      regclass,
    outbox        text,
    stream        text,
    key_columns   text[],
    named_columns jsonb,
    options       jsonb,
    out capture   uuid,
    out is_new    boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    target tide.outbox := tide.outbox_find(outbox);
    plan   record;
begin
    select r.names, r.types, r.kinds, r.lasting into plan from tide.outbox_capture_row(relation) r;
    capture := tide.outbox_capture_of(relation);
    is_new := not exists (select from tide.outbox_capture c where c.id = capture);
    capture := case when is_new then gen_random_uuid() else capture end;
    insert into tide.outbox_capture as c (id, outbox_id, table_name, stream, key_columns, named_columns, options, leave_out, mask,
        plan_names, plan_types, plan_kinds)
    values (capture, target.id, relation::text, outbox_capture_set.stream, outbox_capture_set.key_columns,
        outbox_capture_set.named_columns, outbox_capture_set.options,
        tide.outbox_capture_left_out(outbox_capture_set.options, plan.names), tide.outbox_capture_mask(outbox_capture_set.options, plan.names),
        case when plan.lasting then plan.names end, case when plan.lasting then plan.types end, case when plan.lasting then plan.kinds end)
    on conflict on constraint outbox_capture_pkey do update
    set outbox_id = excluded.outbox_id, table_name = excluded.table_name, stream = excluded.stream, key_columns = excluded.key_columns,
        named_columns = excluded.named_columns, options = excluded.options, leave_out = excluded.leave_out, mask = excluded.mask,
        plan_names = excluded.plan_names, plan_types = excluded.plan_types, plan_kinds = excluded.plan_kinds;
end
$$;
comment on function tide.outbox_capture_set(regclass, text, text, text[], jsonb, jsonb) is
'Writes the row of a capture.';

create or replace function tide.outbox_capture_forget(capture uuid) returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from tide.outbox_capture c where c.id = capture;
    return found;
end
$$;
comment on function tide.outbox_capture_forget(uuid) is
'Removes the row of a capture.';

-- Locks: ACCESS EXCLUSIVE on the table and its partitions, as for any trigger
-- that is dropped.
create or replace function tide.outbox_capture_drop("table" regclass, if_exists boolean default false) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    capture uuid := tide.outbox_capture_of("table");
    trigger record;
begin
    if capture is null then
        if if_exists then
            return false;
        end if;
        raise exception using
            errcode = '42704',
            message = format('table "%s" is not captured', coalesce("table"::text, 'null')),
            hint = 'tide.outbox_captures lists the tables that are.';
    end if;
    -- Also those of partitions that were detached.
    for trigger in
        select t.tgname, t.tgrelid::regclass as relation
        from pg_trigger t
        where t.tgfoid in ('tide.outbox_capture_began()'::regprocedure, 'tide.outbox_capture_changed()'::regprocedure,
                'tide.outbox_capture_truncated()'::regprocedure)
            and split_part(encode(t.tgargs, 'escape'), '\000', 1) = capture::text
        order by t.tgrelid <> "table", t.tgrelid, t.tgname
    loop
        execute format('drop trigger %I on %s', trigger.tgname, trigger.relation);
    end loop;
    perform tide.outbox_capture_forget(capture);
    return true;
end
$$;
comment on function tide.outbox_capture_drop(regclass, boolean) is
'Stops capturing a table; what was published stays in the outbox. Says whether it was captured.
Example: select tide.outbox_capture_drop(''orders'', if_exists => true);';

-- functions/outbox_capture_backfill.sql

-- Publishing the rows that a captured table has already, as events with the op
-- "read": a chunk a call, and a call a transaction, in the order of the
-- primary key. Runs as the caller, who reads and locks rows of the table.
--
-- Locks: the capture's row, so that two backfills of one table take turns;
-- FOR SHARE on the rows of a chunk until the end of the transaction: who
-- changes one of them waits that long.
--
-- That lock keeps the order. Without it: the backfill reads a row; somebody
-- changes it, publishes the update and commits; the backfill publishes the row
-- as it was, and consumers keep that. With it, either the change waits for the
-- backfill's commit, and its event comes later; or the backfill waits for the
-- change's commit, reads the row anew, and its event comes later. A row that
-- is inserted meanwhile, or whose key moves to where the backfill has been,
-- has its own event: the triggers are there before the backfill begins, and
-- making them waited for everybody who wrote without.
create or replace function tide.outbox_capture_backfill(
    "table"      regclass,
    chunk        integer default 1000,
    restart      boolean default false
)
returns table (rows bigint, done bigint, total bigint, finished boolean)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- As in outbox_capture_changed: payload and key, and the position.
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
declare
    keys       text[] := tide.outbox_capture_primary_key("table");
    capture    record;
    reading    record;
    bound      text[];
    source     text;
    range      text;
    row_order  text;
    payloads   jsonb[];
    event_keys text[];
    event_type text;
    policies   constant text := current_setting('row_security');
begin
    if chunk is null or chunk not between 1 and 100000 then
        raise exception using
            errcode = '22023',
            message = format('chunk is %s', coalesce(chunk::text, 'null')),
            hint = 'Give a number of rows from 1 to 100000.';
    end if;
    select b.* into capture from tide.outbox_capture_backfill_begin("table", restart) b;
    if keys = '{}' then
        raise exception using
            errcode = '55000',
            message = format('table "%s" has no primary key, so a backfill could not go on where it stopped', "table"),
            hint = 'Add one. Or publish its rows yourself, in one transaction, with tide.outbox_publish_many and the op "read".';
    end if;
    total := capture.total;
    done := capture.done;
    rows := 0;
    finished := capture.finished;
    if finished then
        return next;
        return;
    end if;

    -- Where a policy would hide rows of the table, reading fails.
    perform set_config('row_security', 'off', true);
    source := format('%s %s n', case when (select c.relkind from pg_class c where c.oid = "table") = 'r' then 'only' end, "table");
    row_order := (select string_agg(format('n.%I', k), ', ' order by place) from unnest(keys) with ordinality u (k, place));
    if total is null then
        total := tide.outbox_capture_count("table", source);
    end if;
    -- The end of the chunk, from a look without locks. The rows within are
    -- then read by a range and not by "limit": a row whose key is changed
    -- while its lock is waited for would come back as the last of the chunk,
    -- and everything up to its new key would be passed over.
    range := tide.outbox_capture_range("table", keys, capture.after, '>');
    execute format('select array[%s] from %s where %s order by %s offset %s limit 1',
        (select string_agg(format('format(''%%s'', n.%I)', k), ', ' order by place) from unnest(keys) with ordinality u (k, place)),
        source, range, row_order, chunk - 1) into bound;
    range := range || ' and ' || tide.outbox_capture_range("table", keys, bound, '<=');

    select tide.outbox_capture_names("table") as names, tide.outbox_capture_row_sql(r.names, r.kinds) as row_sql into reading
    from tide.outbox_capture_row("table") r;
    if not array(select jsonb_object_keys(capture.named_columns)) <@ reading.names then
        perform tide.outbox_capture_check_columns("table", capture.id, reading.names);
    end if;
    execute format('
        select array_agg(((t.r - $1) || $2) order by t.place) filter (where t.wanted), array_agg(t.key order by t.place) filter (where t.wanted), count(*)
        from (
            select s.r, row_number() over () as place,
                case when cardinality($3) = 1 then s.r ->> $3[1] else (tide.outbox_capture_join_keys(array[s.r], $3))[1] end as key,
                $4 is null or coalesce(jsonb_path_match(s.r, $4, ''{"op": "read", "old": null}'', true), false) as wanted
            from (select %s as r from %s where %s order by %s for share of n) s
        ) t', reading.row_sql, source, range, row_order)
    into payloads, event_keys, rows
    using tide.outbox_capture_left_out(capture.options, reading.names), tide.outbox_capture_mask(capture.options, reading.names),
        capture.key_columns, (capture.options ->> 'when')::jsonpath;

    perform set_config('row_security', policies, true);
    if payloads is not null then
        if capture.options ? 'event_type' or 'event_type' = any(reading.names) then
            event_type := replace(coalesce(capture.options ->> 'event_type', capture.stream || '.{op}'), '{op}', 'read');
        end if;
        perform tide.outbox_publish_many(capture.outbox, payloads, array[capture.stream],
            array[jsonb_strip_nulls(jsonb_build_object('event_type', event_type))], event_keys, array['read']);
    end if;
    finished := bound is null;
    done := done + rows;
    total := greatest(total, done);
    perform tide.outbox_capture_backfill_save(capture.id, bound, done, total, finished);
    return next;
end
$$;
comment on function tide.outbox_capture_backfill(regclass, integer, boolean) is
'Publishes the next chunk of a captured table''s rows as events with the op read; call it, a transaction each, until finished. Goes on where the last call stopped; restart begins anew.
Example: select * from tide.outbox_capture_backfill(''orders'', chunk => 5000);';

-- The state of a backfill, its row locked.
create or replace function tide.outbox_capture_backfill_begin(relation regclass, restart boolean)
returns table (id uuid, outbox text, stream text, key_columns text[], named_columns jsonb, options jsonb, after text[], done bigint, total bigint, finished boolean)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    capture uuid := tide.outbox_capture_of(relation);
begin
    if restart then
        update tide.outbox_capture c
        set backfill_after = null, backfill_rows = 0, backfill_total = null, backfill_started_at = null, backfill_finished_at = null
        where c.id = capture;
    end if;
    return query
        select c.id, o.name, c.stream, c.key_columns, c.named_columns, c.options, c.backfill_after, c.backfill_rows, c.backfill_total,
            c.backfill_finished_at is not null
        from tide.outbox_capture c
        join tide.outbox o on o.id = c.outbox_id
        where c.id = capture
        for update of c;
    if not found then
        raise exception using
            errcode = '42704',
            message = format('table "%s" is not captured', coalesce(relation::text, 'null')),
            hint = 'Capture it first, so that no change is missed: select tide.outbox_capture(…);';
    end if;
end
$$;
comment on function tide.outbox_capture_backfill_begin(regclass, boolean) is
'The state of a backfill, locked; an error when the table is not captured.';

create or replace function tide.outbox_capture_backfill_save(capture uuid, after text[], done bigint, total bigint, finished boolean) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update tide.outbox_capture c
    set backfill_after = outbox_capture_backfill_save.after, backfill_rows = outbox_capture_backfill_save.done,
        backfill_total = outbox_capture_backfill_save.total,
        backfill_started_at = coalesce(c.backfill_started_at, now()),
        backfill_finished_at = case when outbox_capture_backfill_save.finished then now() end
    where c.id = capture;
end
$$;
comment on function tide.outbox_capture_backfill_save(uuid, text[], bigint, bigint, boolean) is
'Saves how far a backfill is.';

-- How many rows a table has: counted up to a hundred thousand, then by the
-- planner's statistics.
create or replace function tide.outbox_capture_count(relation regclass, source text) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    counted   bigint;
    estimated bigint;
begin
    execute format('select count(*) from (select from %s limit 100001) t', source) into counted;
    select sum(c.reltuples)::bigint into estimated
    from pg_class c
    where c.oid = relation or c.oid in (select t.relid from pg_partition_tree(relation) t where t.isleaf);
    return case when counted <= 100000 then counted else greatest(counted, estimated) end;
end
$$;
comment on function tide.outbox_capture_count(regclass, text) is
'About how many rows a table has.';

-- The condition for rows "n" whose primary key is above a value, or not above
-- it; true when there is no value. The operators are those of the key's own
-- index: those of their name that the search_path finds may order otherwise.
-- Only superusers make operator families, so they are nobody's trap.
create or replace function tide.outbox_capture_range(relation regclass, keys text[], bounds text[], side text) returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    part   record;
    above  text;
    first  text;
begin
    if bounds is null then
        return 'true';
    end if;
    for part in
        select format('n.%I', a.attname) as name, format('%L::%s', bounds[k.place], format_type(a.atttypid, a.atttypmod)) as value,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 5) as greater,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 4) as not_less,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 2) as not_greater,
            max(format('operator(%I.%s)', s.nspname, o.oprname)) filter (where m.amopstrategy = 3) as equal
        from pg_index i
        cross join unnest(i.indkey::int2[], i.indclass::oid[]) with ordinality k (attnum, class, place)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        join pg_opclass c on c.oid = k.class
        join pg_amop m on m.amopfamily = c.opcfamily and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype
        join pg_operator o on o.oid = m.amopopr
        join pg_namespace s on s.oid = o.oprnamespace
        where i.indrelid = relation and i.indisprimary and k.place <= cardinality(keys)
        group by k.place, a.attname, a.atttypid, a.atttypmod
        order by k.place desc
    loop
        above := case
            when above is null then format('%s %s %s', part.name, part.greater, part.value)
            else format('(%s %s %s or %1$s %4$s %3$s and (%5$s))', part.name, part.greater, part.value, part.equal, above)
        end;
        -- by this the index is entered
        first := format('%s %s %s', part.name, case side when '>' then part.not_less else part.not_greater end, part.value);
    end loop;
    return format(case side when '>' then '(%s and %s)' else '(%s and not %s)' end, first, above);
end
$$;
comment on function tide.outbox_capture_range(regclass, text[], text[], text) is
'The condition for rows above a primary key, or not above it.';

-- functions/outbox_capture_changed.sql

-- The triggers of captured tables.
--
-- Who runs what. These functions run with the rights of the schema's owner,
-- maybe a superuser's, whoever writes to the table; so nothing in them may run
-- code that the table's owner or its users can choose:
--
-- - "when" is a JSON path: a language without functions of users. Options are
--   data everywhere; no text of theirs becomes SQL.
-- - to_jsonb calls the cast to json of a type that has one, and whoever owns a
--   type may give it one. It is applied to trusted types only
--   (tide.outbox_capture_row); other values go through format, which calls
--   the type's output function, and only superusers can make one. The look at
--   the types holds for the whole statement, since the writer's lock keeps
--   anybody from altering the table; a look at the casts would not, for a cast
--   can be made at any moment.
-- - The search_path is pinned, and transition tables hide relations of their
--   name, so that tide_rows and tide_old are what they seem.
-- - A trigger can be made by those only who may execute its function:
--   administrators of tide, who may publish to all outboxes anyway. Nobody
--   else can bind it to a table or give it another capture's id.
-- - The settings tide.capture_open and tide.capture_nested are the user's to
--   forge. What is done by them is confined to the order of events that the
--   very transaction has published to this outbox.
--
-- Locks: those of tide.outbox_publish.

create or replace function tide.outbox_capture_changed() returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- Plans are made once a session: with the values at hand, planning takes longer
-- than all the rest, and nothing here gains by it.
set plan_cache_mode = force_generic_plan
as $$
declare
    operation  text := lower(tg_op);
    capture    record;
    row_sql    text := 'to_jsonb(n.*)';
    careful    boolean := false;
    -- without options that change what is published
    plain      boolean;
    names      text[];
    types      oid[];
    kinds      text[];
    whole      boolean := true;
    leave_out  text[];
    mask       jsonb;
    old_values boolean := false;
    -- event ids begin with it, see tide.outbox_publish
    moment     text := lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0') || '7';
    condition  jsonpath;
    event_type text;
    -- A statement's rows are published at once, or these many at a time.
    batch      constant integer := 10000;
    large      boolean;
    steps      text[] := array[operation];
    step       text;
    new_cursor refcursor;
    old_cursor refcursor;
    one        jsonb;
    new_rows   jsonb[];
    old_rows   jsonb[];
    new_keys   text[];
    old_keys   text[];
    -- Payload and key must not depend on the session that writes. A SET clause
    -- for each of these would cost a quarter of the whole; most sessions differ
    -- in none.
    settings   constant text[] := '{timezone,datestyle,intervalstyle,extra_float_digits,bytea_output}';
    pinned     constant text[] := '{UTC,"ISO, MDY",postgres,1,hex}';
    found_as   text[];
    -- see outbox_capture_reorder
    own        text := concat(' ', tg_argv[0], '/', pg_trigger_depth(), '/');
    opened     text := current_setting('tide.capture_open', true);
    mark       integer := 0;
    inner_one  boolean := false;
    first_id   bigint;
begin
    -- This statement ends; others on the same table may be open around it.
    if opened = own || '0' then
        perform set_config('tide.capture_open', '', true);
    elsif strpos(opened, own) > 0 then
        mark := split_part(substr(opened, strpos(opened, own) + length(own)), ' ', 1);
        opened := overlay(opened placing '' from strpos(opened, own) for length(own) + length(mark::text));
        perform set_config('tide.capture_open', opened, true);
        -- Another of the same depth is a part of the same statement.
        inner_one := strpos(replace(opened, own, ''), concat(' ', tg_argv[0], '/')) > 0;
    end if;

    select c.stream, c.key_columns, c.options, o.id as outbox_id, o.name as outbox, o.part, o.enabled,
        c.named_columns, c.leave_out, c.mask, c.plan_names, c.plan_types, c.plan_kinds,
        (select count(*) from tide_rows) as changed,
        -- Built-in types need no further look, nor do domains of them, nor
        -- enumerations that belong to the owner of this function.
        exists (
            select
            from pg_attribute a
            where a.attrelid = tg_relid and a.attnum > 0 and (a.atttypid >= 16384 or a.attgenerated = 'v') and not a.attisdropped
                and (a.attgenerated = 'v' or (
                    -- a value and no "exists", of which the planner would make a join with all types
                    select not (t.typtype = 'd' and t.typbasetype < 16384 or t.typtype = 'e' and t.typowner = to_regrole(quote_ident(current_user))::oid)
                    from pg_type t
                    where t.oid = a.atttypid))
        ) as foreign_types
    into capture
    from tide.outbox_capture c
    join tide.outbox o on o.id = c.outbox_id
    where c.id = tg_argv[0]::uuid;
    if capture.enabled is not true then
        perform tide.outbox_capture_refuse(tg_relid, capture.outbox);
    end if;
    if capture.changed = 0 then
        -- An update can have lost its rows on the way to another partition.
        if tg_argv[1] is null or operation <> 'update' then
            return null;
        elsif not exists (select from tide_old) then
            return null;
        end if;
    end if;
    -- A partition that was detached is no part of the table any more.
    if tg_argv[1] = 'partition' then
        if not exists (select from pg_inherits i where i.inhrelid = tg_relid) then
            return null;
        end if;
    end if;
    plain := capture.options - '{key,stream,truncate}'::text[] = '{}';
    if capture.foreign_types or not plain then
        select array_agg(a.attname::text order by a.attnum), array_agg(a.atttypid order by a.attnum),
            array_agg(case a.attgenerated when 'v' then 'v' else 't' end order by a.attnum)
        into names, types, kinds
        from pg_attribute a
        where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped;
    end if;
    if capture.foreign_types then
        if names = capture.plan_names and types = capture.plan_types then
            kinds := capture.plan_kinds;
        else
            kinds := (select r.kinds from tide.outbox_capture_row(tg_relid) r);
        end if;
        row_sql := tide.outbox_capture_row_sql(names, kinds);
        careful := not kinds <@ '{t}';
    end if;
    if not plain then
        if 'v' = any(kinds) then
            names := tide.outbox_capture_names(tg_relid);
        end if;
        whole := not capture.options ?| '{columns,exclude,mask}';
        if not array(select jsonb_object_keys(capture.named_columns)) <@ names then
            perform tide.outbox_capture_check_columns(tg_relid, tg_argv[0]::uuid, names);
            leave_out := tide.outbox_capture_left_out(capture.options, names);
            mask := tide.outbox_capture_mask(capture.options, names);
        else
            mask := capture.mask;
            leave_out := capture.leave_out;
            if capture.options ? 'columns' then
                leave_out := array(select n from unnest(names) n where not capture.options -> 'columns' ? n);
            end if;
        end if;
        old_values := coalesce((capture.options -> 'old_values')::boolean, false) and operation = 'update';
        if old_values and 'old' = any(names) then
            perform tide.outbox_capture_refuse_old(tg_relid);
        end if;
        condition := capture.options ->> 'when';
        event_type := capture.options ->> 'event_type';
    end if;
    if inner_one or mark < length(current_setting('tide.capture_nested', true)) then
        first_id := nextval('tide.outbox_event_id_seq');
    end if;

    large := capture.changed > batch;
    -- Put back below; an error undoes it with all the rest.
    if current_setting('timezone') not in ('UTC', 'Etc/UTC') or current_setting('datestyle') <> 'ISO, MDY' or current_setting('intervalstyle') <> 'postgres'
        or current_setting('extra_float_digits') <> '1' or current_setting('bytea_output') <> 'hex'
    then
        for n in 1 .. cardinality(settings) loop
            found_as[n] := current_setting(settings[n]);
            if found_as[n] <> pinned[n] then
                perform set_config(settings[n], pinned[n], true);
            end if;
        end loop;
    end if;
    if operation = 'update' then
        -- The n-th old row became the n-th new one, unless rows got lost: a
        -- trigger of a partition may refuse a row that was moved there. Then
        -- nobody knows which is which: all were deleted, and some inserted.
        -- Of a row whose key changes, the old key is deleted ("moved") and the
        -- new one inserted; all deletions first, since the key that one row
        -- gives up another may take.
        steps := '{moved,update}';
        if tg_argv[1] is not null then
            if (select count(*) from tide_old) <> capture.changed then
                steps := '{delete,insert}';
                large := true;
            end if;
        end if;
    end if;

    if not large then
        if careful then
            execute format(case operation
                when 'update' then 'select array(select %1$s from tide_rows n), array(select %1$s from tide_old n)'
                else 'select array(select %1$s from tide_rows n), null::jsonb[]'
            end, row_sql) into new_rows, old_rows;
        elsif operation = 'update' then
            select array(select to_jsonb(n.*) from tide_rows n), array(select to_jsonb(n.*) from tide_old n) into new_rows, old_rows;
        else
            new_rows := array(select to_jsonb(n.*) from tide_rows n);
        end if;
    end if;

    foreach step in array steps loop
        if large then
            open new_cursor for execute format('select %s from %I n', row_sql,
                case when step = 'delete' and operation = 'update' then 'tide_old' else 'tide_rows' end);
            if step in ('moved', 'update') then
                open old_cursor for execute format('select %s from tide_old n', row_sql);
            end if;
        end if;
        loop
            if large then
                new_rows := '{}';
                old_rows := '{}';
                while cardinality(new_rows) < batch loop
                    fetch new_cursor into one;
                    exit when not found;
                    new_rows := new_rows || one;
                    if step in ('moved', 'update') then
                        fetch old_cursor into one;
                        old_rows := old_rows || one;
                    end if;
                end loop;
                exit when new_rows = '{}';
            end if;

            if cardinality(capture.key_columns) > 1 then
                if not new_rows[1] ?& capture.key_columns then
                    perform tide.outbox_capture_check_columns(tg_relid, tg_argv[0]::uuid, tide.outbox_capture_names(tg_relid));
                end if;
                new_keys := tide.outbox_capture_join_keys(new_rows, capture.key_columns);
                old_keys := tide.outbox_capture_join_keys(old_rows, capture.key_columns);
            elsif cardinality(new_rows) = 1 then
                new_keys := array[new_rows[1] ->> capture.key_columns[1]];
                old_keys := array[old_rows[1] ->> capture.key_columns[1]];
            else
                new_keys := array(select r ->> capture.key_columns[1] from unnest(new_rows) r);
                old_keys := array(select r ->> capture.key_columns[1] from unnest(old_rows) r);
            end if;

            if event_type is null and (new_rows[1] ? 'event_type' or old_rows[1] ? 'event_type') then
                -- else a column of that name would be taken for the event's type
                event_type := capture.stream || '.{op}';
            end if;
            -- A key that was renamed is not there; one that is null is nobody's.
            if new_keys[1] is null and cardinality(capture.key_columns) = 1 then
                perform tide.outbox_capture_check_columns(tg_relid, tg_argv[0]::uuid, tide.outbox_capture_names(tg_relid));
            end if;

            if plain and cardinality(new_keys) = 1 and event_type is null and (operation <> 'update' or new_keys = old_keys) then
                -- The commonest case, in half the time.
                if step <> 'moved' then
                    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
                    values (capture.part, (moment || substr(gen_random_uuid()::text, 16))::uuid, capture.stream,
                        case when length(new_keys[1]) not between 1 and 1024 then tide.outbox_capture_refuse_key(tg_relid, new_keys[1]) else new_keys[1] end,
                        step, new_rows[1], '{}');
                end if;
            elsif step <> 'moved' or new_keys <> old_keys then
                insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
                select capture.part, (moment || substr(gen_random_uuid()::text, 16))::uuid, capture.stream,
                    case when length(e.key) not between 1 and 1024 then tide.outbox_capture_refuse_key(tg_relid, e.key) else e.key end,
                    e.op,
                    case when whole then e.r else (e.r - leave_out) || mask end
                        || case
                            when not old_values or e.op <> 'update' then '{}'
                            else jsonb_build_object('old', case when whole then e.o else (e.o - leave_out) || mask end)
                        end,
                    case
                        when event_type is null then '{}'
                        else jsonb_build_object('event_type', replace(event_type, '{op}', e.op))
                    end || e.more
                from (
                    select u.o, u.r as judged,
                        case when step = 'moved' then u.old_key else u.key end as key,
                        case when step = 'moved' then u.o else u.r end as r,
                        case
                            when step = 'moved' then 'delete'
                            when step = 'update' and u.key is distinct from u.old_key then 'insert'
                            else step
                        end as op,
                        case
                            when step = 'moved' then jsonb_strip_nulls(jsonb_build_object('new_key', u.key))
                            when step = 'update' and u.key is distinct from u.old_key then jsonb_strip_nulls(jsonb_build_object('old_key', u.old_key))
                            else '{}'
                        end as more
                    from unnest(new_rows, old_rows, new_keys, old_keys) u (r, o, key, old_key)
                    where step <> 'moved' or u.key is distinct from u.old_key
                ) e
                where condition is null
                    or jsonb_path_match(e.judged, condition,
                        jsonb_build_object('op', case when step = 'moved' then operation else step end, 'old', e.o), true);
            end if;
            exit when not large;
        end loop;
        if large then
            close new_cursor;
            if step in ('moved', 'update') then
                close old_cursor;
            end if;
        end if;
    end loop;

    for n in 1 .. coalesce(cardinality(found_as), 0) loop
        if found_as[n] <> pinned[n] then
            perform set_config(settings[n], found_as[n], true);
        end if;
    end loop;

    if not pg_try_advisory_xact_lock_shared(1953063013, hashtext(capture.outbox)) then
        if current_setting('max_prepared_transactions') = '0' then
            perform pg_notify('tide_outbox', capture.outbox);
        end if;
    end if;
    if first_id is not null then
        perform tide.outbox_capture_reorder(tg_argv[0], capture.outbox_id, capture.part, first_id, mark, inner_one);
    end if;
    return null;
end
$$;
comment on function tide.outbox_capture_changed() is
'Trigger of captured tables: publishes the rows that a statement has changed.';

-- The keys of rows whose key has several columns: a JSON array of the values,
-- which nothing but the same values makes.
create or replace function tide.outbox_capture_join_keys(rows jsonb[], key_columns text[]) returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select (select jsonb_agg(r.value -> k.name order by k.place) from unnest(key_columns) with ordinality k (name, place))::text
        from unnest(rows) with ordinality r (value, place)
        order by r.place)
$$;
comment on function tide.outbox_capture_join_keys(jsonb[], text[]) is
'The keys of rows whose key has several columns.';

-- functions/outbox_capture_nested.sql

-- Statements that a captured table's own triggers make while one that fired
-- them is not over. Who may run these, see outbox_capture_changed.sql.
--
-- Locks: those of tide.outbox_publish; rows of the transaction's own events.

-- Remembers that a statement on a captured table has begun: the capture, the
-- depth, and how long the list of nested events was then. By this,
-- outbox_capture_changed knows what the table's own triggers have published
-- while the statement ran.
create or replace function tide.outbox_capture_began() returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('tide.capture_open',
        concat(current_setting('tide.capture_open', true), ' ', tg_argv[0], '/', pg_trigger_depth(), '/',
            coalesce(length(current_setting('tide.capture_nested', true)), 0)), true);
    return null;
end
$$;
comment on function tide.outbox_capture_began() is
'Trigger of captured tables: a statement begins.';

-- A statement of one of the table's own triggers has published already when
-- the statement that fired it, which came first, publishes. Example: insert a
-- row; a trigger updates it; the update is published, and then the insert with
-- the row as it was, which consumers would keep. So the nested events of these
-- keys are published again, behind. Nobody else has seen them: they are this
-- transaction's own.
create or replace function tide.outbox_capture_reorder(
    capture   text,
    outbox_id integer,
    part      integer,
    first_id  bigint,
    mark      integer,
    inner_one boolean
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    list  text := coalesce(current_setting('tide.capture_nested', true), '');
    since text := coalesce(substr(list, mark + 1), '');
begin
    with range as (
        select r[1]::bigint as low, r[2]::bigint as high
        from regexp_matches(since, concat(' ', capture, '/(\d+)-(\d+)'), 'g') r
    ), moved as (
        delete from tide.outbox_event e
        using range
        where e.part in (select p.part from tide.outbox_part p where p.outbox_id = outbox_capture_reorder.outbox_id)
            and e.xid = pg_current_xact_id() and e.id between range.low and range.high
            and exists (
                select
                from tide.outbox_event l
                where l.part = outbox_capture_reorder.part and l.xid = pg_current_xact_id() and l.id > first_id
                    and l.key is not distinct from e.key)
        returning e.*
    )
    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
    select outbox_capture_reorder.part, m.event_id, m.stream, m.key, m.op, m.payload, m.headers
    from moved m
    order by m.id;

    list := left(list, mark) || regexp_replace(since, concat(' ', capture, '/\d+-\d+'), '', 'g');
    if inner_one then
        list := concat(list, ' ', capture, '/', first_id, '-', nextval('tide.outbox_event_id_seq'));
    end if;
    perform set_config('tide.capture_nested', list, true);
end
$$;
comment on function tide.outbox_capture_reorder(text, integer, integer, bigint, integer, boolean) is
'Puts the events of nested statements behind those of the statement around them.';

-- functions/outbox_capture_options.sql

-- Checking the options of a capture. No lock. Nothing of an option is ever
-- executed: they name columns, and "when" is a JSON path.

create or replace function tide.outbox_capture_refuse_option(relation regclass, problem text, advice text, code text default '22023')
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = code,
        message = format('cannot capture table "%s": %s', relation, problem),
        hint = advice;
end
$$;
comment on function tide.outbox_capture_refuse_option(regclass, text, text, text) is
'Raises the error for a table or an option that cannot be captured.';

-- The options that a capture may have, and the JSON types of their values.
create or replace function tide.outbox_capture_keys() returns table (key text, kinds text[], example text)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    values
    ('columns', '{array}'::text[], '["id", "status"]'),
    ('event_type', '{string}', '"order.{op}"'),
    ('exclude', '{array}', '["notes"]'),
    ('key', '{string,array}', '"customer_id"'),
    ('mask', '{array,object}', '["email"] or {"email": "hidden"}'),
    ('old_values', '{boolean}', 'true'),
    ('stream', '{string}', '"orders"'),
    ('truncate', '{string}', '"refuse" or "publish"'),
    ('when', '{string}', '"$.status == \"paid\""')
$$;
comment on function tide.outbox_capture_keys() is
'The options that a capture may have.';

-- Refuses options that cannot be right; returns the columns that they and the
-- key name, with their numbers.
create or replace function tide.outbox_capture_check_options(relation regclass, options jsonb, key_columns text[]) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    option    record;
    near      text;
    names     text[];
    named     jsonb := '{}';
    mentioned record;
begin
    if options is null or jsonb_typeof(options) <> 'object' then
        perform tide.outbox_capture_refuse_option(relation, format('options are %s', coalesce(left(options::text, 60), 'null')),
            'Give a JSON object, for instance ''{"exclude": ["notes"]}''.');
    end if;
    for option in
        select o.key, o.value, jsonb_typeof(o.value) as kind, k.key as known, k.kinds, k.example
        from jsonb_each(options) o
        left join tide.outbox_capture_keys() k on k.key = o.key
        order by o.key
    loop
        if option.known is null then
            near := tide.nearest_name(option.key, array(select k.key from tide.outbox_capture_keys() k));
            perform tide.outbox_capture_refuse_option(relation, format('option "%s" is not known', left(option.key, 80)),
                case
                    when near is not null then format('Did you mean "%s"?', near)
                    else format('The options are: %s.', (select string_agg(k.key, ', ' order by k.key) from tide.outbox_capture_keys() k))
                end);
        end if;
        if not option.kind = any(option.kinds) or option.value in ('""', '[]', '{}') then
            perform tide.outbox_capture_refuse_option(relation, format('option "%s" is %s', option.key, left(option.value::text, 60)),
                format('Give for instance %s, or leave the option out.', option.example));
        end if;
        if option.kind = 'array' and exists (select from jsonb_array_elements(option.value) e where jsonb_typeof(e) <> 'string') then
            perform tide.outbox_capture_refuse_option(relation, format('option "%s" is %s', option.key, left(option.value::text, 60)),
                'Give the names of columns, as strings.');
        end if;
    end loop;
    perform tide.outbox_capture_check_values(relation, options);

    names := tide.outbox_capture_names(relation);
    for mentioned in
        select n.name, n.option
        from (
            select unnest(key_columns) as name, 'key' as option
            union all
            select e, o.key
            from jsonb_each(options) o
            cross join jsonb_array_elements_text(case when jsonb_typeof(o.value) = 'array' then o.value else '[]' end) e
            where o.key in ('columns', 'exclude', 'mask')
            union all
            select jsonb_object_keys(options -> 'mask'), 'mask' where jsonb_typeof(options -> 'mask') = 'object'
            union all
            select ('"' || m[1] || '"')::jsonb #>> '{}', 'when' from regexp_matches(tide.outbox_capture_path(relation, options)::text, '\$(?:"old")?\."((?:[^"\\]|\\.)+)"', 'g') m
        ) n
    loop
        if not mentioned.name = any(names) then
            near := tide.nearest_name(mentioned.name, names);
            perform tide.outbox_capture_refuse_option(relation,
                format('option "%s" names column "%s", which %s', mentioned.option, left(mentioned.name, 80),
                    case
                        when exists (select from pg_attribute a where a.attrelid = relation and a.attname = mentioned.name)
                            then 'is generated and not stored'
                        else 'does not exist'
                    end),
                case
                    when near is not null then format('Did you mean "%s"?', near)
                    else format('The columns are: %s.', left(array_to_string(names, ', '), 500))
                end, '42703');
        end if;
        named := named || jsonb_build_object(mentioned.name,
            (select a.attnum from pg_attribute a where a.attrelid = relation and a.attname = mentioned.name));
    end loop;
    return named;
end
$$;
comment on function tide.outbox_capture_check_options(regclass, jsonb, text[]) is
'Refuses options of a capture that cannot be right; the columns that they name, with their numbers.';

-- What the options' values must look like beyond their types.
create or replace function tide.outbox_capture_check_values(relation regclass, options jsonb) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    stream     text := options ->> 'stream';
    condition  jsonpath := tide.outbox_capture_path(relation, options);
    refusal    text;
    sample     jsonb;
begin
    if length(stream) > 255 or stream like '{%' or stream like '[%' then
        perform tide.outbox_capture_refuse_option(relation, format('stream "%s" is longer than 255 characters or starts with { or [', left(stream, 60)),
            'Give a short word for what the events are about, for instance "orders".');
    end if;
    if options ? 'columns' and options ? 'exclude' then
        perform tide.outbox_capture_refuse_option(relation, 'options "columns" and "exclude" are both given',
            'Say which columns events have, or which they have not.');
    end if;
    if options ->> 'truncate' not in ('refuse', 'publish') then
        perform tide.outbox_capture_refuse_option(relation, format('option "truncate" is "%s"', left(options ->> 'truncate', 60)),
            'Choose one of: refuse, publish.');
    end if;
    if condition is null then
        return;
    end if;
    -- Evaluated once, with a row of nulls: finds variables that are not there,
    -- and paths that are no condition.
    sample := (select jsonb_object_agg(n, null) from unnest(tide.outbox_capture_names(relation)) n);
    begin
        perform jsonb_path_match(sample, condition, jsonb_build_object('op', 'insert', 'old', sample));
    exception when others then
        get stacked diagnostics refusal = message_text;
        perform tide.outbox_capture_refuse_option(relation, format('option "when" is no condition: %s', refusal),
            'Write a JSON path that is true or false: $ is the row, $old the row before an update, $op the op. Example: $.status == "paid" && $op != "delete".');
    end;
end
$$;
comment on function tide.outbox_capture_check_values(regclass, jsonb) is
'Refuses values of a capture''s options that cannot be right.';

-- The condition as a JSON path; an error in words when it is none.
create or replace function tide.outbox_capture_path(relation regclass, options jsonb) returns jsonpath
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    path    jsonpath;
    refusal text;
begin
    -- Assigned first: the value of "return" is cast outside of this block.
    path := options ->> 'when';
    return path;
exception when others then
    get stacked diagnostics refusal = message_text;
    perform tide.outbox_capture_refuse_option(relation, format('option "when" is not a JSON path: %s', refusal),
        'Write for instance $.status == "paid": $ is the row, $old the row before an update, $op the op. Columns whose names are no plain words are quoted: $."my column".');
end
$$;
comment on function tide.outbox_capture_path(regclass, jsonb) is
'The condition of a capture as a JSON path.';

-- functions/outbox_capture_refuse.sql

-- Errors of captured tables, apart from the path of what goes well. No lock.

-- A trigger without its capture, or an outbox that takes nothing.
create or replace function tide.outbox_capture_refuse(relation regclass, outbox text) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if outbox is null then
        raise exception using
            errcode = '55000',
            message = format('table "%s" has the triggers of a capture that is not in tide.outbox_capture', relation),
            hint = format('Capture it again with tide.outbox_capture, or remove the triggers: select tide.outbox_capture_drop(%L);', relation);
    end if;
    raise exception using
        errcode = '55000',
        message = format('table "%s" is captured into outbox "%s", which is disabled', relation, outbox),
        hint = format('Enable it with: select tide.outbox_enable(%L); or stop capturing: select tide.outbox_capture_drop(%L);', outbox, relation);
end
$$;
comment on function tide.outbox_capture_refuse(regclass, text) is
'Raises the error for a captured table that cannot be published from.';

create or replace function tide.outbox_capture_refuse_key(relation regclass, key text) returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = '22023',
        message = case
            when key = '' then format('table "%s" is captured, and the key of this row is empty', relation)
            else format('table "%s" is captured, and the key "%s…" has %s characters; 1024 are the most', relation, left(key, 40), length(key))
        end,
        hint = 'Capture the table with another key: the option "key" names its columns.';
end
$$;
comment on function tide.outbox_capture_refuse_key(regclass, text) is
'Raises the error for a row whose key no event can have.';

create or replace function tide.outbox_capture_refuse_old(relation regclass) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = '22023',
        message = format('table "%s" is captured with "old_values" and has a column "old", whose place in the payload they would take', relation),
        hint = 'Rename the column, or capture the table without "old_values".';
end
$$;
comment on function tide.outbox_capture_refuse_old(regclass) is
'Raises the error for a column in whose place the old values would be.';

-- A column that the capture speaks of is not there. Dropped, it does not
-- matter, unless the key consists of it. Renamed, it would be published
-- although it was to be left out, so that is an error.
create or replace function tide.outbox_capture_check_columns(relation regclass, capture uuid, names text[]) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_capture tide.outbox_capture;
    root          regclass := coalesce(pg_partition_root(relation), relation);
    missing       record;
    other         text;
begin
    select c.* into found_capture from tide.outbox_capture c where c.id = capture;
    for missing in
        select n.key as name, n.value::text::smallint as place, n.key = any(found_capture.key_columns) as in_key
        from jsonb_each(found_capture.named_columns) n
        where n.key <> all(names)
        order by n.key
    loop
        continue when not missing.in_key and exists (
            select from pg_attribute a
            where a.attrelid = root and a.attnum = missing.place and a.attisdropped);
        select a.attname into other
        from pg_attribute a
        where a.attrelid = root and a.attnum = missing.place and not a.attisdropped;
        raise exception using
            errcode = '42703',
            message = format('table "%s" is captured, and column "%s", %s, %s', relation, missing.name,
                case when missing.in_key then 'which the key is made of' else 'which its options name' end,
                case when other is not null then format('is now "%s"', other) else 'is gone' end),
            hint = 'Call tide.outbox_capture again with options that name the columns as they are now; in the transaction that renames a column, if writes must not fail meanwhile.';
    end loop;
end
$$;
comment on function tide.outbox_capture_check_columns(regclass, uuid, text[]) is
'Raises the error for a renamed column that a capture depends on.';

-- functions/outbox_capture_row.sql

-- A captured table's row as JSON. No lock.
--
-- to_jsonb calls user code where a type has a cast to json: whoever owns the
-- type may make one at any time. Such values must not be given to it where
-- somebody else's rights are in force, see outbox_capture_changed.sql.

-- A table's columns, their types, and how each becomes JSON:
--
--   t  as it is: to_jsonb may see it. Built-in types, domains and arrays of
--      them; types and composites of built-in types that belong to a superuser
--      or to the current user, for nobody else can make a cast for these.
--   f  by the type's output function, which only superusers can make.
--   a  likewise, and then as an array of texts.
--   v  not at all: generated and not stored. A trigger sees nothing of it, and
--      a consumer can compute it as well.
--
-- Enumerations and ranges are always "f", which gives the same text.
-- "lasting" says that another answer takes another column, or a superuser who
-- gives a base type away. Composite types change by themselves.
create or replace function tide.outbox_capture_row(relation regclass, out names text[], out types oid[], out kinds text[], out lasting boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    select array_agg(c.name order by c.place), array_agg(c.type order by c.place), bool_and(c.typtype <> 'c'),
        array_agg(case when c.virtual then 'v' when c.trusted then 't' when c.is_array then 'a' else 'f' end order by c.place)
    into names, types, lasting, kinds
    from (
        select a.attname::text as name, a.attnum as place, a.atttypid as type, a.attgenerated = 'v' as virtual, e.oid is not null as is_array, x.typtype,
            a.atttypid < 16384
                or x.typtype = 'd' and x.typbasetype < 16384
                or (r.rolsuper or r.rolname = current_user) and (
                    x.typtype = 'b'
                    or x.typtype = 'c' and not exists (
                        select from pg_attribute f
                        where f.attrelid = x.typrelid and f.attnum > 0 and not f.attisdropped and f.atttypid >= 16384)) as trusted
        from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        left join pg_type e on e.oid = t.typelem and t.typlen = -1
        join pg_type x on x.oid = coalesce(e.oid, t.oid)
        left join pg_roles r on r.oid = x.typowner
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    ) c;
end
$$;
comment on function tide.outbox_capture_row(regclass) is
'A captured table''s columns, their types, and how each becomes JSON.';

-- The expression for the row "n" as JSON.
create or replace function tide.outbox_capture_row_sql(names text[], kinds text[]) returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if kinds <@ '{t}' then
        -- "n.*", since "n" could be a column
        return 'to_jsonb(n.*)';
    end if;
    return (
        select format('(select to_jsonb(t.*) from (select %s) t)', string_agg(
            case u.kind
                when 't' then format('n.%I', u.name)
                -- format calls the type's output function. A cast to text could be anybody's.
                else format('case when num_nulls(n.%1$I) = 0 then format(''%%s'', n.%1$I)%2$s end as %1$I', u.name,
                    case u.kind when 'a' then '::text[]' end)
            end, ', ' order by u.place))
        from unnest(names, kinds) with ordinality u (name, kind, place)
        where u.kind <> 'v');
end
$$;
comment on function tide.outbox_capture_row_sql(text[], text[]) is
'The expression for a captured row as JSON.';

-- The columns that a row has in events.
create or replace function tide.outbox_capture_names(relation regclass) returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select a.attname::text
        from pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
        order by a.attnum)
$$;
comment on function tide.outbox_capture_names(regclass) is
'The columns that a captured row has in events.';

-- The columns that events do not have.
create or replace function tide.outbox_capture_left_out(options jsonb, names text[]) returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select n.name
        from unnest(names) n (name)
        where options -> 'exclude' ? n.name
            or options ? 'columns' and not options -> 'columns' ? n.name)
$$;
comment on function tide.outbox_capture_left_out(jsonb, text[]) is
'The columns that a capture leaves out.';

-- What takes the place of the masked columns' values.
create or replace function tide.outbox_capture_mask(options jsonb, names text[]) returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(jsonb_object_agg(m.name, m.value), '{}')
    from (
        select e.name, '"***"'::jsonb as value
        from jsonb_array_elements_text(case when jsonb_typeof(options -> 'mask') = 'array' then options -> 'mask' else '[]' end) e (name)
        union all
        select e.key, e.value
        from jsonb_each(case when jsonb_typeof(options -> 'mask') = 'object' then options -> 'mask' else '{}' end) e
    ) m
    where m.name = any(names) and m.name <> all(tide.outbox_capture_left_out(options, names))
$$;
comment on function tide.outbox_capture_mask(jsonb, text[]) is
'What takes the place of a capture''s masked columns.';

-- functions/outbox_capture_truncated.sql

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

-- functions/outbox_publish.sql

-- Publishing an event: one insert, in the caller's transaction and with the
-- caller's rights.
--
-- Locks: ROW EXCLUSIVE on one partition; an advisory lock, shared, on the
-- outbox until the end of the transaction, which nobody waits for. Only a
-- relay that is about to sleep tries it exclusively, and never waits for it:
-- while it sleeps, the shared lock is not to be had, and that is how a
-- publisher knows that somebody must be woken. NOTIFY takes a cluster-wide
-- lock until commit and costs two thirds of the commit rate with 16 sessions,
-- so it is done only then. It is a hint; the relay also polls.
create or replace function tide.outbox_publish(
    outbox   text,
    stream   text,
    payload  jsonb,
    headers  jsonb default '{}',
    key      text  default null,
    op       text  default 'insert',
    event_id uuid  default null
) returns uuid
language plpgsql
volatile
-- No "set search_path" here: to set it and to put it back is a quarter of what
-- publishing costs more than a plain insert. Instead every type, function and
-- operator names its schema, and nothing is used that looks an operator up
-- by itself, as "in", "like" and "is distinct from" do.
as $$
declare
    -- An event id begins with the time in milliseconds (version 7 of RFC 9562):
    -- inboxes and brokers index event ids, and ids that come in their order
    -- cost an inbox a third less than random ones, however large it is.
    published pg_catalog.uuid := coalesce(event_id, (
        pg_catalog.lpad(pg_catalog.to_hex(
            (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) operator(pg_catalog.*) 1000)::pg_catalog.int8), 12, '0')
        operator(pg_catalog.||) '7'
        operator(pg_catalog.||) pg_catalog.substr(pg_catalog.gen_random_uuid()::pg_catalog.text, 16))::pg_catalog.uuid);
begin
    if stream operator(pg_catalog.=) '' or pg_catalog.length(stream) operator(pg_catalog.>) 255
        or stream operator(pg_catalog.~~) '{%' or stream operator(pg_catalog.~~) '[%'
        or key operator(pg_catalog.=) '' or pg_catalog.length(key) operator(pg_catalog.>) 1024
        or pg_catalog.jsonb_typeof(headers) operator(pg_catalog.<>) 'object'
        or (op operator(pg_catalog.<>) 'insert' and op operator(pg_catalog.!~) '^[A-Za-z0-9_.-]{1,64}$')
        or payload is null
    then
        perform tide.outbox_publish_refuse(outbox, stream, payload, headers, key, op);
    end if;

    -- One statement for the look-up and the insert: a second one would cost
    -- a tenth of the commit rate.
    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
    select o.part, published,
           coalesce(outbox_publish.stream, o.name), outbox_publish.key, coalesce(outbox_publish.op, 'insert'),
           outbox_publish.payload, coalesce(outbox_publish.headers, '{}')
    from tide.outbox o
    where o.name operator(pg_catalog.=) outbox_publish.outbox and o.enabled;
    if not found then
        perform tide.outbox_publish_refuse(outbox, stream, payload, headers, key, op);
    end if;

    if not pg_catalog.pg_try_advisory_xact_lock_shared(1953063013, pg_catalog.hashtext(outbox)) then
        -- A transaction that has notified cannot be prepared for two-phase
        -- commit; where those are possible the relay polls instead.
        if pg_catalog.current_setting('max_prepared_transactions') operator(pg_catalog.=) '0' then
            perform pg_catalog.pg_notify('tide_outbox', outbox);
        end if;
    end if;
    return published;
end
$$;

comment on function tide.outbox_publish(text, text, jsonb, jsonb, text, text, uuid) is
'Publishes an event in the caller''s transaction and returns its event id. stream null means the outbox''s name; events of one key keep their order; event_id makes the event id yours.
Example: select tide.outbox_publish(''order_events'', ''orders'', jsonb_build_object(''order_id'', 7), key => ''7'');';

-- The short form: the outbox's name is the stream.
create or replace function tide.outbox_publish(outbox text, payload jsonb, headers jsonb default '{}') returns uuid
language plpgsql
volatile
as $$
begin
    return tide.outbox_publish(outbox, null::pg_catalog.text, payload, headers);
end
$$;
comment on function tide.outbox_publish(text, jsonb, jsonb) is
'Publishes an event whose stream is the outbox''s name, in the caller''s transaction, and returns its event id.
Example: select tide.outbox_publish(''order_events'', jsonb_build_object(''order_id'', 7));';

-- functions/outbox_publish_many.sql

-- Publishing many events at once: one insert for all of them, in the caller's
-- transaction and with the caller's rights.
--
-- Locks: as tide.outbox_publish.
create or replace function tide.outbox_publish_many(
    outbox    text,
    payloads  jsonb[],
    streams   text[]  default null,
    headers   jsonb[] default null,
    keys      text[]  default null,
    ops       text[]  default null,
    event_ids uuid[]  default null
) returns uuid[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    events    integer := cardinality(payloads);
    published uuid[];
    written   bigint;
    -- The event ids of a call share the time and 26 random bits, and count on
    -- from a random number of 44 bits (method 1 of RFC 9562, section 6.2): what
    -- outbox_publish says of their order, and one random number for all.
    random    text := lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0')
        || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14);
    first     bigint := ('x' || substr(random, 22))::bit(44)::bigint;
begin
    if outbox is null or events is null
        or cardinality(streams) not in (1, events) or cardinality(headers) not in (1, events) or cardinality(ops) not in (1, events)
        or cardinality(keys) <> events or cardinality(event_ids) <> events
    then
        perform tide.outbox_publish_many_refuse(outbox, payloads, streams, headers, keys, ops, event_ids);
    end if;
    if events > 1 then
        streams := case when cardinality(streams) = 1 then array_fill(streams[1], array[events]) else streams end;
        headers := case when cardinality(headers) = 1 then array_fill(headers[1], array[events]) else headers end;
        ops := case when cardinality(ops) = 1 then array_fill(ops[1], array[events]) else ops end;
    end if;
    if event_ids is null then
        published := array(select (left(random, 20) || lpad(to_hex(first + n), 12, '0'))::uuid from generate_series(1, events) n);
    else
        published := array(
            select coalesce(e.id, (left(random, 20) || lpad(to_hex(first + e.n), 12, '0'))::uuid)
            from unnest(event_ids) with ordinality e (id, n));
    end if;

    -- The functions' rows come in the arrays' order, and ids are drawn as they
    -- come: there is nothing here that sorts or hashes them.
    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
    select o.part, e.event_id, coalesce(e.stream, o.name), e.key, coalesce(e.op, 'insert'), e.payload, coalesce(e.headers, '{}')
    from tide.outbox o
    cross join unnest(published, streams, keys, ops, payloads, outbox_publish_many.headers) e (event_id, stream, key, op, payload, headers)
    where o.name = outbox_publish_many.outbox and o.enabled
        -- what tide.outbox_publish refuses is left out here, and found below
        and (e.stream = '' or length(e.stream) > 255 or e.stream like '{%' or e.stream like '[%'
            or e.key = '' or length(e.key) > 1024
            or jsonb_typeof(e.headers) <> 'object'
            or (e.op <> 'insert' and e.op !~ '^[A-Za-z0-9_.-]{1,64}$')
            or e.payload is null) is not true;
    get diagnostics written = row_count;
    if written <> events or events = 0 then
        perform tide.outbox_publish_many_refuse(outbox, payloads, streams, headers, keys, ops, published);
    end if;

    if not pg_try_advisory_xact_lock_shared(1953063013, hashtext(outbox)) then
        if current_setting('max_prepared_transactions') = '0' then
            perform pg_notify('tide_outbox', outbox);
        end if;
    end if;
    return published;
end
$$;
comment on function tide.outbox_publish_many(text, jsonb[], text[], jsonb[], text[], text[], uuid[]) is
'Publishes events in the order of payloads, all or none, and returns their event ids in that order. The other arrays have one element for each payload, null where tide.outbox_publish has a default; streams, headers and ops may have a single one that stands for all.
Example: select tide.outbox_publish_many(''order_events'', array_agg(jsonb_build_object(''order_id'', n)), keys => array_agg(n::text)) from generate_series(1, 1000) n;';

-- The error for what tide.outbox_publish_many does not take, which names the
-- event. Returns only where there was no event. Locks: as tide.outbox_publish.
create or replace function tide.outbox_publish_many_refuse(
    outbox    text,
    payloads  jsonb[],
    streams   text[],
    headers   jsonb[],
    keys      text[],
    ops       text[],
    event_ids uuid[]
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    events  integer := cardinality(payloads);
    bad     record;
    problem text;
    advice  text;
begin
    perform tide.outbox_publish_refuse(outbox, null, '{}', null, null, null)
    where outbox is null or not exists (select from tide.outbox o where o.name = outbox_publish_many_refuse.outbox and o.enabled);
    if events is null then
        raise exception using
            errcode = '22004',
            message = format('cannot publish to outbox "%s": payloads are null', outbox),
            hint = 'Give an array of jsonb; an empty one, ''{}'', publishes nothing.';
    end if;
    select a.name, a.elements, a.single into bad
    from (values
        ('streams', cardinality(streams), true), ('headers', cardinality(headers), true), ('ops', cardinality(ops), true),
        ('keys', cardinality(keys), false), ('event_ids', cardinality(event_ids), false)
    ) a (name, elements, single)
    where a.elements <> events and not (a.single and a.elements = 1)
    limit 1;
    if found then
        raise exception using
            errcode = '22023',
            message = format('cannot publish to outbox "%s": %s have %s elements, and payloads %s', outbox, bad.name, bad.elements, events),
            hint = case
                when bad.single then format('Give %s one element for each payload, a single one for all, or null for the default.', bad.name)
                else format('Give %s one element for each payload, or null for the default.', bad.name)
            end;
    end if;
    if events = 0 then
        return;
    end if;
    -- One of them raises; what the others publish is undone by that.
    begin
        for bad in
            select e.*
            from unnest(streams, keys, ops, payloads, outbox_publish_many_refuse.headers) with ordinality e (stream, key, op, payload, headers, place)
            order by e.place
        loop
            perform tide.outbox_publish(outbox, bad.stream, bad.payload, bad.headers, bad.key, bad.op);
        end loop;
    exception when sqlstate '22023' or sqlstate '22004' then
        get stacked diagnostics problem = message_text, advice = pg_exception_hint;
        raise exception using
            errcode = sqlstate,
            message = format('%s (event %s of %s)', problem, bad.place, events),
            hint = advice;
    end;
    raise exception using
        errcode = '55000',
        message = format('outbox "%s" was disabled until a moment ago', outbox),
        hint = 'Publish again.';
end
$$;
comment on function tide.outbox_publish_many_refuse(text, jsonb[], text[], jsonb[], text[], text[], uuid[]) is
'Raises the error for what tide.outbox_publish_many does not take.';

-- functions/outbox_publish_refuse.sql

-- The error for what tide.outbox_publish does not take, apart from the path
-- of those it takes. Raises always. No lock.
create or replace function tide.outbox_publish_refuse(
    outbox  text,
    stream  text,
    payload jsonb,
    headers jsonb,
    key     text,
    op      text
) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    code    text := '22023';
    problem text;
    advice  text;
begin
    if outbox is null or not exists (select from tide.outbox o where o.name = outbox_publish_refuse.outbox) then
        perform tide.refuse_unknown('outbox', outbox, array(select o.name from tide.outbox o));
    end if;
    if stream like '{%' or stream like '[%' then
        problem := format('stream %s looks like a payload', left(stream, 60));
        advice := 'Cast the payload so that the short form is meant: tide.outbox_publish(''' || outbox || ''', ''…''::jsonb, ''…''::jsonb); or give the stream as second argument.';
    elsif stream = '' then
        problem := 'stream is empty';
        advice := 'Give the kind of thing that the event is about, or null for the outbox''s name.';
    elsif length(stream) > 255 then
        problem := format('stream "%s…" has %s characters, and 255 are the most', left(stream, 40), length(stream));
        advice := 'Choose a shorter stream.';
    elsif key = '' then
        problem := 'key is empty';
        advice := 'Give null when no order is asked for.';
    elsif length(key) > 1024 then
        problem := format('key "%s…" has %s characters, and 1024 are the most', left(key, 40), length(key));
        advice := 'Choose a shorter key, for instance a hash of this one.';
    elsif jsonb_typeof(headers) <> 'object' then
        problem := format('headers %s are of type %s', left(headers::text, 60), jsonb_typeof(headers));
        advice := 'Headers are a JSON object, for instance ''{"trace": "abc"}''.';
    elsif op <> 'insert' and op !~ '^[A-Za-z0-9_.-]{1,64}$' then
        problem := format('op "%s" is not a token', left(op, 80));
        advice := 'Use insert, update, delete or a word of your own of up to 64 letters, digits, dots, hyphens and underscores.';
    elsif payload is null then
        code := '22004';
        problem := 'payload is null';
        advice := 'An event without content has the payload ''{}'' or ''null''::jsonb.';
    else
        raise exception using
            errcode = '55000',
            message = format('outbox "%s" is disabled', outbox),
            hint = format('Enable it with: select tide.outbox_enable(%L);', outbox);
    end if;
    raise exception using
        errcode = code,
        message = format('cannot publish to outbox "%s": %s', outbox, problem),
        hint = advice;
end
$$;
comment on function tide.outbox_publish_refuse(text, text, jsonb, jsonb, text, text) is
'Raises the error for what tide.outbox_publish does not take.';

-- functions/outbox_receive.sql

-- Publishing what comes from another database: once for each event id.

-- Publishes the events whose ids the outbox does not know from earlier calls, in
-- the caller's transaction and with the caller's rights, and returns how many.
--
-- Two sessions with the same events, as a relay that was superseded and its
-- successor are: the second waits at the primary key for the first's commit,
-- and then knows them. Had they looked before they wrote, both would publish.
--
-- Locks: as tide.outbox_publish_many, and the rows of tide.outbox_received.
create or replace function tide.outbox_receive(
    outbox    text,
    event_ids uuid[],
    payloads  jsonb[],
    streams   text[],
    headers   jsonb[],
    keys      text[],
    ops       text[]
) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    receiver integer;
    added    uuid[];
begin
    select o.id into receiver from tide.outbox o where o.name = outbox_receive.outbox;
    if receiver is null then
        perform tide.refuse_unknown('outbox', outbox, array(select o.name from tide.outbox o));
    end if;
    with fresh as (
        insert into tide.outbox_received (outbox_id, event_id)
        select receiver, e.id from unnest(event_ids) e (id)
        on conflict do nothing
        returning event_id
    )
    select array_agg(f.event_id) into added from fresh f;
    if added is null then
        return 0;
    end if;
    if cardinality(added) < cardinality(event_ids) then
        select array_agg(e.id order by e.place), array_agg(e.payload order by e.place), array_agg(e.stream order by e.place),
               array_agg(e.headers order by e.place), array_agg(e.key order by e.place), array_agg(e.op order by e.place)
        into event_ids, payloads, streams, headers, keys, ops
        from (
            select distinct on (a.id) a.*
            from unnest(event_ids, payloads, streams, outbox_receive.headers, keys, ops)
                with ordinality a (id, payload, stream, headers, key, op, place)
            where a.id = any(added)
            order by a.id, a.place
        ) e;
    end if;
    perform tide.outbox_publish_many(outbox, payloads, streams, headers, keys, ops, event_ids);
    return cardinality(added);
end
$$;
comment on function tide.outbox_receive(text, uuid[], jsonb[], text[], jsonb[], text[], text[]) is
'Called by a relay that moves events from another database: publishes, with their event ids, those that the outbox did not get before, in the order of the arrays, and returns how many.';

-- Removes event ids that are older than a day and than the longest retention;
-- a relay that sends again what is older would publish it again.
create or replace function tide.outbox_received_forget(max_ids integer) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    forgotten bigint;
begin
    delete from tide.outbox_received r
    where r.ctid = any(array(
        select o.ctid
        from tide.outbox_received o
        where o.received_at < clock_timestamp() - greatest((select max(x.retention) from tide.outbox x), interval '1 day')
        order by o.received_at
        limit max_ids
        for update skip locked));
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;
comment on function tide.outbox_received_forget(integer) is
'Removes the oldest event ids that outboxes got from other databases, and returns how many.';

-- functions/outbox_retention.sql

-- Retention: an outbox's partitions as a ring. The current one takes new
-- events. When it is old or large, one from the reserve becomes current and it
-- is retired. A retired one is truncated whole once all in it is older than
-- the retention and was delivered by every pipeline: no deletes, so no bloat,
-- whatever snapshots are open.

create or replace function tide.outbox_set(
    name       text,
    retention  interval default null,
    warn_bytes bigint   default null
) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    outbox tide.outbox := tide.outbox_find(name);
begin
    if retention is not null then
        perform tide.check_retention('outbox', name, retention);
    end if;
    if warn_bytes < 1 then
        raise exception using
            errcode = '22023',
            message = format('warn_bytes %s of outbox "%s" is not a size', warn_bytes, name),
            hint = 'Give a number of bytes, for instance pg_size_bytes(''10 GB'').';
    end if;
    update tide.outbox o
    set retention = coalesce(outbox_set.retention, o.retention),
        warn_bytes = coalesce(outbox_set.warn_bytes, o.warn_bytes)
    where o.id = outbox.id;
end
$$;
comment on function tide.outbox_set(text, interval, bigint) is
'Changes how long an outbox keeps its events, or above which size it is reported as a problem; what is null stays as it is.
Example: select tide.outbox_set(''order_events'', retention => ''3 days'', warn_bytes => pg_size_bytes(''50 GB''));';

-- When the oldest event was published that a pipeline has not delivered, among
-- those in some partitions; null when it has delivered them all. By the saved
-- position: what is above last_id, and what is above the floor and was not
-- seen by the snapshot, less what a round of late events has got to. The floor
-- is the position's, so one of another history is judged within that history.
-- Whoever removes events asks this; it has no upper bound of xids as reading
-- has, so that it may say too much and never too little. Index probes only: an
-- outbox grows faster than it is analysed, hence the settings. No lock.
create or replace function tide.pipeline_oldest(pipeline_id integer, parts integer[]) returns timestamptz
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    saved  tide.pipeline_position;
    oldest timestamptz;
    late   timestamptz;
begin
    select s.* into saved
    from tide.pipeline_position s
    where s.pipeline_id = pipeline_oldest.pipeline_id
    order by s.seq desc
    limit 1;
    execute format(
        'select e.published_at
        from tide.outbox_event e
        where e.part = any(%L) and e.id > $1
        order by e.id
        limit 1', parts)
    into oldest
    using coalesce(saved.last_id, 0);
    if saved.snapshot is null then
        return oldest;
    end if;
    execute format(
        'select min(t.published_at)
        from (
            select l.published_at, l.id, l.xid
            from pg_snapshot_xip($1) x (xid)
            cross join lateral (
                select e.published_at, e.id, e.xid
                from tide.outbox_event e
                where e.part = any(%1$L) and (e.xid, e.id) > (x.xid, $2) and (e.xid, e.id) <= (x.xid, $3)
            ) l
            union all
            select e.published_at, e.id, e.xid
            from tide.outbox_event e
            where e.part = any(%1$L) and e.xid >= pg_snapshot_xmax($1) and e.id > $2 and e.id <= $3
        ) t
        where not coalesce(t.id <= $5 and pg_visible_in_snapshot(t.xid, $4), false)', parts)
    into late
    using saved.snapshot, saved.floor_id, saved.last_id, saved.drain_snapshot, saved.drain_id;
    return least(oldest, late);
end
$$;
comment on function tide.pipeline_oldest(integer, integer[]) is
'When the oldest event was published that a pipeline has not delivered, among those in some partitions; null when there is none.';

-- Whether a partition may be emptied: retired, all in it older than the
-- retention, and delivered by every pipeline of the outbox, paused ones too.
-- The id follows the time of publishing, so the greatest id stands for the
-- newest event. One that a dropped outbox left may be emptied after its rest.
create or replace function tide.outbox_part_done(part integer) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    ring   tide.outbox_part;
    outbox tide.outbox;
    newest timestamptz;
begin
    select p.* into ring from tide.outbox_part p where p.part = outbox_part_done.part;
    if ring.outbox_id is null then
        return ring.used_since < clock_timestamp() - interval '1 hour'
            and pg_relation_size(format('tide.%I', 'outbox_event_' || part)::regclass) > 0;
    end if;
    select o.* into outbox from tide.outbox o where o.id = ring.outbox_id;
    if outbox.part = part or not coalesce(ring.retired_at + outbox.retention < clock_timestamp(), false) then
        return false;
    end if;
    execute format('select e.published_at from tide.%I e order by e.id desc limit 1', 'outbox_event_' || part) into newest;
    return coalesce(newest + outbox.retention < clock_timestamp(), true)
        and not exists (
            select
            from tide.pipeline p
            where p.outbox_id = ring.outbox_id and tide.pipeline_oldest(p.id, array[part]) is not null);
end
$$;
comment on function tide.outbox_part_done(integer) is
'Whether a partition of tide.outbox_event may be emptied: nothing in it is within the retention or undelivered.';

-- Empties a partition and puts it in reserve; false when it may not be emptied.
-- Locks: ACCESS EXCLUSIVE on the one partition to the end of the transaction.
-- New events go to another one, so publishers do not notice. What counts is
-- looked at under the lock: whoever published late into the partition has
-- ended then, and what they published is seen, since the caller's isolation is
-- READ COMMITTED. Without the lock, an event committed between the look and
-- the truncation would be lost.
create or replace function tide.outbox_part_empty(part integer) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('lock table only tide.%I in access exclusive mode', 'outbox_event_' || part);
    if not tide.outbox_part_done(part) then
        return false;
    end if;
    execute format('truncate tide.%I', 'outbox_event_' || part);
    update tide.outbox_part p set retired_at = null where p.part = outbox_part_empty.part;
    return true;
end
$$;
comment on function tide.outbox_part_empty(integer) is
'Empties a partition of tide.outbox_event if it may be emptied; says whether it did.';

-- For how long it has been time for another partition; null when it is not.
-- It is when the current one holds something and has been current for a
-- quarter of the retention, or is large. When much is held back, "large" grows
-- with the outbox, so that there are never more than a few dozen partitions:
-- every page that is read has to look at all of them.
create or replace function tide.outbox_overdue(outbox tide.outbox) returns interval
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    late    interval;
    size    bigint := pg_total_relation_size(format('tide.%I', 'outbox_event_' || outbox.part)::regclass);
    retired bigint;
    kept    bigint;
begin
    if pg_relation_size(format('tide.%I', 'outbox_event_' || outbox.part)::regclass) = 0 then
        return null;
    end if;
    select clock_timestamp() - p.used_since - greatest(outbox.retention / 4, interval '1 minute') into late
    from tide.outbox_part p
    where p.part = outbox.part;
    select count(*), coalesce(sum(pg_total_relation_size(format('tide.%I', 'outbox_event_' || p.part)::regclass)), 0)
    into retired, kept
    from tide.outbox_part p
    where p.outbox_id = outbox.id and p.retired_at is not null;
    if size >= greatest(1073741824, kept / 8) or late >= interval '0' and (retired < 12 or size >= kept / 16) then
        return greatest(late, interval '0');
    end if;
    return null;
end
$$;
comment on function tide.outbox_overdue(tide.outbox) is
'For how long it has been time that another partition becomes the current one of an outbox; null when it is not.';

-- Transactions that have published something and not ended. What they know of
-- the partitions is from when they first did.
create or replace function tide.publishing_now() returns text[]
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct l.virtualtransaction), '{}')
    from pg_locks l
    where l.locktype = 'relation'
        and l.database = (select d.oid from pg_database d where d.datname = current_database())
        and l.relation = 'tide.outbox_event'::regclass
        and l.mode = 'RowExclusiveLock'
        and l.pid is not null
$$;
comment on function tide.publishing_now() is
'The transactions that have published something and not ended.';

-- One step of an outbox's ring, if there is one to take: what was done, and
-- with which partition.
--
-- A partition is made one transaction ahead of its use, at least. A
-- transaction that has published before does not look again which partitions
-- there are; sent to one that was attached since, it would fail. So a new one
-- stays in reserve until every transaction has ended that was publishing after
-- the attachment was committed: unseen_by. The caller's advisory lock makes
-- sure that it was committed for everybody before anybody looks.
--
-- Then sessions are told once more, and those that publish meanwhile awaited
-- again: announced. Without it: a session lists the partitions before the
-- attachment's commit; while it looks up each of them the news comes in, finds
-- no list to discard yet, and is spent; the old list is kept, beyond the end of
-- the transaction, and the session's next one fails.
--
-- Locks: the outbox's row; SHARE UPDATE EXCLUSIVE on tide.outbox_event when a
-- partition is made or announced. Publishers do not notice either.
create or replace function tide.outbox_turn(outbox_id integer, out action text, out part integer)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    outbox tide.outbox;
    late   interval;
    taken  integer;
    known  boolean;
begin
    select o.* into outbox from tide.outbox o where o.id = outbox_turn.outbox_id for no key update skip locked;
    if not found then
        return;
    end if;
    update tide.outbox_part p
    set unseen_by = case
            when p.unseen_by is null then tide.publishing_now()
            else array(select unnest(p.unseen_by) intersect select unnest(tide.publishing_now()))
        end
    where p.outbox_id = outbox.id and p.unseen_by is distinct from '{}';
    -- Who looked up the outbox before the last rotation may have written since
    -- into what is in reserve by now.
    update tide.outbox_part p
    set retired_at = clock_timestamp()
    where p.outbox_id = outbox.id and p.part <> outbox.part and p.retired_at is null
        and pg_relation_size(format('tide.%I', 'outbox_event_' || p.part)::regclass) > 0;

    select p.part into part
    from tide.outbox_part p
    where p.outbox_id = outbox.id and p.unseen_by = '{}' and not p.announced
    limit 1;
    if found then
        -- Changes nothing, and makes every session discard what it knows of the table.
        alter table only tide.outbox_event alter column part set statistics -1;
        update tide.outbox_part p set announced = true, unseen_by = null where p.part = outbox_turn.part;
        action := 'announced';
        return;
    end if;

    late := tide.outbox_overdue(outbox);
    if late is null then
        return;
    end if;
    select p.part, p.unseen_by is not distinct from '{}' into taken, known
    from tide.outbox_part p
    where p.outbox_id = outbox.id and p.part <> outbox.part and p.retired_at is null
    order by p.unseen_by is distinct from '{}', p.part
    limit 1;
    if not found then
        -- One that will be emptied in a moment spares another partition.
        if late < outbox.retention / 20 + interval '10 seconds' and exists (
            select
            from tide.outbox_part p
            where p.outbox_id = outbox.id and p.retired_at is not null and tide.outbox_part_done(p.part))
        then
            return;
        end if;
        part := tide.outbox_take_part();
        update tide.outbox_part p
        set outbox_id = outbox.id, used_since = clock_timestamp(), retired_at = null, unseen_by = null, announced = false
        where p.part = outbox_turn.part;
        action := 'prepared';
        return;
    end if;
    if not known then
        return;
    end if;
    part := taken;
    update tide.outbox_part p set retired_at = clock_timestamp() where p.part = outbox.part;
    update tide.outbox_part p set used_since = clock_timestamp() where p.part = outbox_turn.part;
    update tide.outbox o set part = outbox_turn.part where o.id = outbox.id;
    action := 'rotated';
end
$$;
comment on function tide.outbox_turn(integer) is
'Takes one step of an outbox''s ring of partitions, if there is one to take, and says which.';

-- functions/relay.sql

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

-- functions/relay_rewind.sql

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

-- functions/schema_version.sql

-- The version of this schema. A function and not a row, so that it always is
-- that of the functions beside it, and no dump brings an older one along.
create or replace function tide.schema_version() returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select '1.1'
$$;
comment on function tide.schema_version() is
'The version of the schema tide.';

-- functions/status.sql

-- What waits where. Counts are exact up to 100,000 and estimated above, so
-- that asking stays cheap with a large backlog. No lock.

-- The events of a pipeline's outbox that were not delivered yet, as far as its
-- saved position says: those above last_id, and below it those that the
-- position's snapshot did not see.
create or replace function tide.pipeline_pending(
    pipeline_id  integer,
    out events   bigint,
    out exact    boolean,
    out oldest   timestamptz
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    parts   text;
    saved   tide.pipeline_position;
    greatest_counted bigint;
    greatest_id      bigint;
    behind        bigint := 0;
    behind_oldest timestamptz;
begin
    select array_agg(p.part)::text into parts
    from tide.pipeline l
    join tide.outbox_part p on p.outbox_id = l.outbox_id
    where l.id = pipeline_pending.pipeline_id;
    if parts is null then
        return;
    end if;
    select s.* into saved
    from tide.pipeline_position s
    where s.pipeline_id = pipeline_pending.pipeline_id
    order by s.seq desc
    limit 1;

    -- The partitions' numbers stand in the text, for the planner to leave out the others.
    execute format(
        'select count(*), min(t.published_at), max(t.id)
        from (select e.id, e.published_at
              from tide.outbox_event e
              where e.part = any(%L) and e.id > $1
              order by e.id
              limit 100001) t', parts)
    into events, oldest, greatest_counted
    using coalesce(saved.last_id, 0);
    exact := events <= 100000;
    if not exact then
        execute format('select max(e.id) from tide.outbox_event e where e.part = any(%L)', parts) into greatest_id;
        events := events + (greatest_id - greatest_counted)
            * (events::double precision / (greatest_counted - coalesce(saved.last_id, 0)));
    end if;

    if saved.snapshot is not null then
        execute format(
            'select count(*), min(t.published_at)
            from (select e.published_at
                  from tide.outbox_event e
                  where e.part = any(%L)
                      and e.id > $1 and e.id <= $2
                      and (e.xid = any(array(select pg_snapshot_xip($3))) or e.xid >= pg_snapshot_xmax($3) and e.xid < $4)
                      and not coalesce(e.id <= $6 and pg_visible_in_snapshot(e.xid, $5), false)
                  limit 100001) t', parts)
        into behind, behind_oldest
        using saved.floor_id, saved.last_id, saved.snapshot, saved.bound, saved.drain_snapshot, saved.drain_id;
        events := events + behind;
        exact := exact and behind <= 100000;
        oldest := least(oldest, behind_oldest);
    end if;
end
$$;
comment on function tide.pipeline_pending(integer) is
'How many events a forward pipeline has not delivered yet, whether that is exact, and since when the oldest waits.';

create or replace function tide.outbox_status(name text default null) returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    status jsonb;
begin
    if name is null then
        return (select coalesce(jsonb_agg(tide.outbox_describe(o) order by o.name), '[]') from tide.outbox o);
    end if;
    select tide.outbox_describe(o) into status from tide.outbox o where o.name = outbox_status.name;
    if not found then
        perform tide.refuse_unknown('outbox', name, array(select o.name from tide.outbox o));
    end if;
    return status;
end
$$;
comment on function tide.outbox_status(text) is
'An outbox as JSON: events retained, pending for each pipeline, age of the oldest, bytes, which pipelines hold back the retention and since when, a warning when it is larger than warn_bytes; without a name an array of all. Counts above 100,000 are estimates, and the field beside them says so.
Example: select jsonb_pretty(tide.outbox_status(''order_events''));';

create or replace function tide.outbox_describe(outbox tide.outbox) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    parts     integer[] := array(select p.part from tide.outbox_part p where p.outbox_id = outbox.id order by p.part);
    retained  bigint;
    estimated bigint;
    bytes     bigint;
    oldest    timestamptz;
    holders   jsonb;
begin
    execute format('select count(*) from (select from tide.outbox_event e where e.part = any(%L) limit 100001) t', parts::text)
    into retained;
    execute format('select e.published_at from tide.outbox_event e where e.part = any(%L) order by e.id limit 1', parts::text)
    into oldest;
    select sum(greatest(c.reltuples, 0))::bigint, sum(pg_total_relation_size(c.oid))::bigint into estimated, bytes
    from unnest(parts) part
    join pg_class c on c.oid = to_regclass(format('tide.%I', 'outbox_event_' || part));
    select coalesce(jsonb_agg(jsonb_build_object(
        'pipeline', p.name,
        'since', w.oldest + outbox.retention,
        'paused', not p.enabled) order by w.oldest, p.name), '[]') into holders
    from tide.pipeline p
    cross join lateral tide.pipeline_oldest(p.id, parts) w (oldest)
    where p.outbox_id = outbox.id and w.oldest + outbox.retention < clock_timestamp();
    return jsonb_build_object(
        'name', outbox.name,
        'enabled', outbox.enabled,
        'retention', outbox.retention,
        'retained', case when retained > 100000 then greatest(retained, estimated) else retained end,
        'retained_exact', retained <= 100000,
        'oldest_age_seconds', round(extract(epoch from clock_timestamp() - oldest)::numeric, 3),
        'bytes', bytes,
        'warn_bytes', outbox.warn_bytes,
        'partitions', cardinality(parts),
        'held_by', holders,
        'warning', case when bytes > outbox.warn_bytes then format('the outbox has %s, more than its limit of %s%s',
            pg_size_pretty(bytes), pg_size_pretty(outbox.warn_bytes),
            case when holders <> '[]' then format('; pipeline "%s" holds back its retention since %s',
                holders -> 0 ->> 'pipeline', holders -> 0 ->> 'since') end) end,
        'pipelines', (
            select coalesce(jsonb_agg(jsonb_build_object(
                'name', p.name, 'pending', w.events, 'pending_exact', w.exact) order by p.name), '[]')
            from tide.pipeline p
            cross join tide.pipeline_pending(p.id) w
            where p.outbox_id = outbox.id));
end
$$;
comment on function tide.outbox_describe(tide.outbox) is
'An outbox as JSON.';

create or replace function tide.inbox_status(name text default null) returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null then
        return (select coalesce(jsonb_agg(tide.inbox_describe(i) order by i.name), '[]') from tide.inbox i);
    end if;
    return (select tide.inbox_describe(i) from tide.inbox i where i.id = tide.inbox_id(inbox_status.name));
end
$$;
comment on function tide.inbox_status(text) is
'An inbox as JSON: messages pending, of these delayed after a failure and in flight with a worker, dead, processed, age of the oldest pending, bytes; its parts, and how many event ids it remembers of messages that are cleaned; without a name an array of all. Counts stop at 100,001, and the field exact says so.
Example: select jsonb_pretty(tide.inbox_status(''payment_triggers''));';

create or replace function tide.inbox_describe(inbox tide.inbox) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    leaf      text := format('tide.%I', inbox.name || '_inbox');
    pending   bigint;
    delayed   bigint;
    in_flight bigint;
    dead      bigint;
    processed bigint;
    oldest    timestamptz;
begin
    execute format(
        'select count(*), count(*) filter (where t.next_attempt_at > now() and t.lease_token is null),
            count(*) filter (where t.next_attempt_at > now() and t.lease_token is not null), min(t.received_at)
        from (select m.next_attempt_at, m.lease_token, m.received_at
              from %s m
              where num_nonnulls(m.processed_at, m.dead_at) < 1
              order by m.id
              limit 100001) t', leaf)
    into pending, delayed, in_flight, oldest;
    execute format('select count(*) from (select from %s m where m.dead_at is not null limit 100001) t', leaf) into dead;
    execute format('select count(*) from (select from %s m where m.processed_at is not null limit 100001) t', leaf) into processed;
    return jsonb_build_object(
        'name', inbox.name,
        'max_attempts', inbox.max_attempts,
        'retention', inbox.retention,
        'ordered', inbox.ordered,
        'pending', pending,
        'delayed', delayed,
        'in_flight', in_flight,
        'dead', dead,
        'processed', processed,
        'exact', greatest(pending, dead, processed) <= 100000,
        'oldest_age_seconds', round(extract(epoch from clock_timestamp() - oldest)::numeric, 3),
        'bytes', (select sum(pg_total_relation_size(t.relid)) from pg_partition_tree(leaf::regclass) t),
        'parts', (
            select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'part', p.part,
                'opened_at', p.opened_at,
                'closed_at', p.closed_at,
                'cleaning_waits_since', p.waiting_since,
                'bytes', pg_total_relation_size(format('tide.inbox_message_%s_%s', p.inbox_id, p.part)::regclass)))
                order by p.opened_at)
            from tide.inbox_part p
            where p.inbox_id = inbox.id and p.kind = 'messages' and p.opened_at is not null),
        'memory', tide.inbox_describe_memory(inbox.id),
        'pipelines', (
            select coalesce(jsonb_agg(p.name order by p.name), '[]')
            from tide.pipeline p
            where p.inbox_id = inbox.id));
end
$$;
comment on function tide.inbox_describe(tide.inbox) is
'An inbox as JSON.';

-- Event ids of messages that are gone.
create or replace function tide.inbox_describe_memory(inbox_id integer) returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    counted   bigint;
    estimated bigint;
    bytes     bigint;
    oldest    timestamptz;
begin
    execute format('select count(*) from (select from tide.inbox_memory m where m.inbox_id = %s limit 100001) t', inbox_id) into counted;
    select sum(greatest(c.reltuples, 0))::bigint, sum(pg_total_relation_size(c.oid)), min(p.opened_at)
    into estimated, bytes, oldest
    from tide.inbox_part p
    join pg_class c on c.oid = to_regclass(format('tide.inbox_memory_%s_%s', p.inbox_id, p.part))
    where p.inbox_id = inbox_describe_memory.inbox_id and p.kind = 'memory' and p.opened_at is not null;
    return jsonb_build_object(
        'event_ids', case when counted > 100000 then greatest(counted, estimated) else counted end,
        'exact', counted <= 100000,
        'bytes', coalesce(bytes, 0),
        'since', oldest);
end
$$;
comment on function tide.inbox_describe_memory(integer) is
'What an inbox remembers, as JSON.';

-- views/dead_letters.sql

create or replace view tide.dead_letters as
select
    d.id,
    p.name as pipeline,
    d.event_id,
    d.stream,
    d.key,
    d.payload,
    d.body,
    d.headers,
    d.error,
    d.attempts,
    d.failed_at,
    d.op,
    d.event_type,
    d.source,
    d.published_at,
    d.destination,
    d.transport_headers,
    d.coordinates,
    d.retry_requested_at,
    d.holds_key
from tide.dead_letter d
join tide.pipeline p on p.id = d.pipeline_id;
comment on view tide.dead_letters is 'Events that a pipeline could not deliver, whole, with the reason; body holds what was not readable as JSON, attempts is 0 for an event that was parked behind another of its key, and holds_key says that later events of the key wait. Messages that an inbox''s workers gave up stay in the inbox, with dead_at set.';

-- views/outbox_captures.sql

-- The captured tables. A capture belongs to the table that has its triggers,
-- whatever the table's name is now.
create or replace view tide.outbox_captures as
select
    coalesce(r.relation::text, c.table_name) as "table",
    o.name as outbox,
    case
        when r.relation is null then 'stopped'
        when not r.enabled then 'stopped'
        when not o.enabled then 'blocked'
        when m.columns is not null then 'blocked'
        when p.partitions is not null then 'partial'
        else 'capturing'
    end as state,
    case
        when r.relation is null then 'the table is gone, or its triggers are: capture it again'
        when not r.enabled then 'triggers of the table are disabled: alter table … enable trigger'
        when not o.enabled then format('outbox "%s" is disabled, so writes to the table fail', o.name)
        when m.columns is not null then format('column %s is gone or renamed: capture the table again', m.columns)
        when p.partitions is not null then format('statements that name partition %s are not captured: capture the table again', p.partitions)
    end as reason,
    c.stream,
    c.key_columns,
    c.options,
    case
        when c.backfill_started_at is null then 'none'
        when c.backfill_finished_at is null then 'running'
        else 'finished'
    end as backfill,
    c.backfill_rows,
    c.backfill_total,
    c.backfill_started_at,
    c.backfill_finished_at,
    c.created_at
from tide.outbox_capture c
join tide.outbox o on o.id = c.outbox_id
left join lateral (
    select t.tgrelid::regclass as relation, bool_and(t.tgenabled in ('O', 'A')) as enabled
    from pg_trigger t
    join pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'tide'::regnamespace and f.proname = 'outbox_capture_changed'
    where encode(t.tgargs, 'escape') in (c.id || '\000', c.id || '\000partitioned\000')
    group by t.tgrelid
    limit 1
) r on true
cross join lateral (
    select string_agg(format('"%s"', n.key), ', ' order by n.key) as columns
    from jsonb_each(c.named_columns) n
    where r.relation is not null
        and not exists (
            select from pg_attribute a
            where a.attrelid = r.relation
                and (a.attname = n.key or a.attnum = n.value::text::smallint and a.attisdropped and n.key <> all(c.key_columns)))
) m
cross join lateral (
    select string_agg(format('"%s"', q.relid), ', ' order by q.relid) as partitions
    from pg_partition_tree(r.relation) q
    join pg_class k on k.oid = q.relid and k.relkind in ('r', 'p')
    where not exists (
        select from pg_trigger t
        join pg_proc f on f.oid = t.tgfoid and f.pronamespace = 'tide'::regnamespace and f.proname = 'outbox_capture_changed'
        where t.tgrelid = q.relid)
        and q.relid <> r.relation
) p;
comment on view tide.outbox_captures is
'The captured tables: into which outbox, how, whether that works and if not why, and how far the backfill is.';
comment on column tide.outbox_captures.state is
'capturing; partial: some partitions are not captured when a statement names them; blocked: writes to the table fail; stopped: nothing is captured.';

-- views/outbox_retention.sql

-- How large each outbox is and what keeps it from being emptied. Index probes
-- only; cheap enough to be asked every few seconds.
create or replace view tide.outbox_retention as
select
    o.name as outbox,
    o.retention,
    r.partitions,
    r.bytes,
    o.warn_bytes,
    coalesce(h.held_by, '{}') as held_by,
    h.held_since
from tide.outbox o
cross join lateral (
    select count(*) as partitions,
           sum(pg_total_relation_size(format('tide.%I', 'outbox_event_' || p.part)::regclass))::bigint as bytes,
           array_agg(p.part) as parts
    from tide.outbox_part p
    where p.outbox_id = o.id
) r
cross join lateral (
    select array_agg(l.name order by w.oldest, l.name) as held_by, min(w.oldest) + o.retention as held_since
    from tide.pipeline l
    cross join lateral tide.pipeline_oldest(l.id, r.parts) w (oldest)
    where l.outbox_id = o.id and w.oldest + o.retention < clock_timestamp()
) h;
comment on view tide.outbox_retention is 'How large each outbox is, and which pipelines hold back its retention.';
comment on column tide.outbox_retention.bytes is 'Size on disk of all its partitions, with their indexes.';
comment on column tide.outbox_retention.warn_bytes is 'Above this the size is reported as a problem; tide.outbox_set changes it.';
comment on column tide.outbox_retention.held_by is 'Pipelines, paused ones too, that have not delivered an event which is older than the retention; the one furthest behind comes first.';
comment on column tide.outbox_retention.held_since is 'When the oldest of those events grew older than the retention.';

-- views/relay_status.sql

-- What each pipeline does, and in words why it does not. A relay that was
-- silent for seven seconds is dead.
create or replace view tide.relay_status as
select
    p.name as pipeline,
    p.direction,
    coalesce(b.name, i.name) as endpoint,
    p.enabled,
    case
        when not p.enabled then 'paused'
        when r.id is null then 'unowned'
        when s.reported_at is null or s.reported_at < o.since then 'starting'
        else s.state
    end as state,
    case
        when not p.enabled then format('paused; resume it with: select tide.relay_enable(%L);', p.name)
        when r.id is null and not exists (
            select from tide.relay_instance l
            where l.heartbeat_at > clock_timestamp() - interval '7 seconds')
        then 'no relay is running for this database; start one with: pg-tide --postgres-url URL'
        when r.id is null then 'no relay has taken it over yet'
        when s.reported_at is null or s.reported_at < o.since then 'the relay is starting it'
        else s.reason
    end as reason,
    coalesce(w.events, s.lag_events) as lag_events,
    coalesce(w.exact, case when s.lag_events is not null then false end) as lag_exact,
    case
        when w.oldest is not null then greatest(0, extract(epoch from clock_timestamp() - w.oldest)::double precision)
        when p.direction = 'forward' then 0
    end as lag_seconds,
    s.last_error,
    s.last_error_at,
    case when r.id is not null then r.host || ':' || r.pid end as owner,
    r.id as owner_id,
    coalesce(s.delivered, 0) as delivered,
    coalesce(s.filtered, 0) as filtered,
    coalesce(s.failed, 0) as failed,
    case when p.enabled and r.id is not null then coalesce(s.rate_per_second, 0) else 0 end as rate_per_second,
    (select count(*) from tide.dead_letter d where d.pipeline_id = p.id) as dead_letters,
    s.reported_at,
    case when h.oldest + b.retention < clock_timestamp() then h.oldest + b.retention end as holds_retention_since
from tide.pipeline p
left join tide.outbox b on b.id = p.outbox_id
left join tide.inbox i on i.id = p.inbox_id
left join tide.pipeline_owner o on o.pipeline_id = p.id
left join tide.relay_instance r
    on r.id = o.relay_id and r.heartbeat_at > clock_timestamp() - interval '7 seconds'
left join tide.pipeline_state s on s.pipeline_id = p.id
left join lateral tide.pipeline_pending(p.id) w on true
left join lateral (
    select tide.pipeline_oldest(p.id, array(select l.part from tide.outbox_part l where l.outbox_id = p.outbox_id)) as oldest
    where p.outbox_id is not null
) h on true;
comment on view tide.relay_status is 'What each pipeline does, how far behind it is and why nothing moves; lag_events of a forward pipeline is exact to 100,000 and estimated above.';
comment on column tide.relay_status.state is 'paused, unowned, or what the relay says: starting, running, waiting, blocked, misconfigured, stopped.';
comment on column tide.relay_status.reason is 'In words why nothing moves; null when all is well.';
comment on column tide.relay_status.lag_events is 'Forward: events of the outbox that were not delivered. Reverse: messages that the source had left when the relay last reported (reported_at); null when the source does not say.';
comment on column tide.relay_status.lag_exact is 'Whether lag_events was counted just now; false for estimates, and for what a source said.';
comment on column tide.relay_status.lag_seconds is 'How long the oldest event waits that was not delivered; null for reverse pipelines: their sources say how much is left, and not since when.';
comment on column tide.relay_status.owner is 'Host and process of the relay at work; null when there is none.';
comment on column tide.relay_status.holds_retention_since is 'Since when an event that the pipeline has not delivered keeps its outbox from being emptied; null when none does.';

-- access/0_schema.sql

comment on schema tide is 'pg_tide, an event bus: outboxes, inboxes and the relay''s configuration.';

-- access/1_roles.sql

-- The roles belong to the cluster: made when missing and where the installing
-- role may, never dropped. What each may do is in grants.sql.
do $$
declare
    role_name text;
begin
    foreach role_name in array array[
        'tide_admin', 'tide_operator', 'tide_relay', 'tide_publisher', 'tide_consumer', 'tide_reader']
    loop
        continue when to_regrole(role_name) is not null;
        begin
            execute format('create role %I nologin', role_name);
        exception
            -- Made meanwhile by an installation in another database.
            when duplicate_object or unique_violation then
                null;
            when insufficient_privilege then
                raise notice using
                    message = format('role %s was not created: the installing role may not create roles', role_name),
                    hint = format('Have it created (create role %s nologin) and install again, or go without it.', role_name);
        end;
    end loop;
end
$$;

-- access/2_inboxes.sql

-- Inboxes of a version that gave each a single partition get three and a
-- memory. Their rows stay where they are. Done once.
do $$
declare
    inbox record;
begin
    for inbox in
        select i.id, i.name
        from tide.inbox i
        where not exists (select from tide.inbox_rotation r where r.inbox_id = i.id)
        order by i.id
    loop
        perform tide.inbox_create_partition(inbox.id, inbox.name || '_inbox');
    end loop;
    if not exists (
        select from pg_trigger t
        where t.tgrelid = 'tide.inbox_message'::regclass and t.tgname = 'remember_deleted')
    then
        execute tide.inbox_delete_trigger('inbox_message');
    end if;
end
$$;

-- access/2_policies.sql

-- Publishing runs with the publisher's rights; which outboxes it may write to,
-- this policy asks. The reader's policy lets everybody see what grants allow.
-- Made once: each time would lock out publishers.
do $$
begin
    if not (select c.relrowsecurity from pg_class c where c.oid = 'tide.outbox_event'::regclass) then
        -- The commonest case stands before the function, whose call would cost
        -- as much as half of the insert.
        create policy outbox_event_publish on tide.outbox_event for insert
            with check (pg_has_role(to_regrole('tide_publisher')::oid, 'usage') or tide.may_publish(part));
        create policy outbox_event_read on tide.outbox_event for select using (true);
        alter table tide.outbox_event enable row level security;
    end if;
end
$$;

-- access/3_grants.sql

-- Who may do what. Nothing is granted to PUBLIC. Of the roles, those that
-- exist get theirs; installing again gives the others what they missed.
-- tide_admin, the database's owner (pg_database_owner) and whoever created the
-- extension get all that is listed.
do $$
declare
    administrators name[] := array(
        select r.rolname
        from pg_roles r
        where (r.rolname in ('tide_admin', 'pg_database_owner')
                or r.oid = (select e.extowner from pg_extension e where e.extname = 'pg_tide'))
            and r.oid <> (select c.relowner from pg_class c where c.oid = 'tide.outbox'::regclass)
        order by r.rolname);
    entry    record;
    grantee  name;
    routine  regprocedure;
    relation regclass;
begin
    for entry in
        select g.kind, g.privilege, g.objects, g.roles
        from (values
            ('function', 'execute', '{outbox_create, outbox_create_if_not_exists, outbox_set, outbox_drop, outbox_grant_publish,
                outbox_revoke_publish, inbox_create, inbox_drop, relay_set_outbox, relay_set_inbox, relay_delete,
                node_renew,
                outbox_capture, outbox_capture_drop, outbox_capture_backfill, outbox_capture_set, outbox_capture_forget,
                outbox_capture_backfill_begin, outbox_capture_backfill_save, outbox_capture_count, outbox_capture_range,
                outbox_capture_of, outbox_capture_check_table, outbox_capture_check_options, outbox_capture_check_values,
                outbox_capture_check_columns, outbox_capture_refuse_option, outbox_capture_keys, outbox_capture_path,
                outbox_capture_primary_key, outbox_capture_row, outbox_capture_row_sql, outbox_capture_names, outbox_capture_join_keys, outbox_capture_left_out, outbox_capture_mask,
                outbox_capture_triggers, outbox_capture_began, outbox_capture_changed, outbox_capture_truncated}'::name[],
                '{}'::name[]),
            ('function', 'execute', '{outbox_enable, outbox_disable, relay_enable, relay_disable, relay_rewind,
                dead_letter_retry, dead_letter_discard, inbox_replay, relay_adopt, relay_adoptable}', '{tide_operator}'),
            ('function', 'execute', '{inbox_pending, inbox_mark_processed, inbox_mark_failed}', '{tide_consumer}'),
            -- A relay works an inbox too, when it pushes it on.
            ('function', 'execute', '{inbox_claim, inbox_extend, inbox_complete, inbox_fail, inbox_release}', '{tide_consumer, tide_relay}'),
            ('function', 'execute', '{inbox_id, inbox_is_ordered}', '{tide_consumer, tide_relay}'),
            ('function', 'execute', '{inbox_status}', '{tide_consumer, tide_operator, tide_reader}'),
            ('function', 'execute', '{outbox_status, pipeline_pending, relay_get_config, relay_list_configs}',
                '{tide_operator, tide_reader}'),
            ('function', 'execute', '{inbox_enter, inbox_leave, outbox_receive}', '{tide_relay}'),
            ('function', 'execute', '{maintain, inbox_maintain}', '{tide_operator, tide_relay}'),
            ('function', 'execute', '{pipeline_oldest}', '{tide_operator, tide_reader, tide_relay}'),
            ('function', 'execute', '{node_id, node_check, node_here, position_beyond}', '{tide_relay}'),
            ('function', 'execute', '{schema_version}',
                '{tide_operator, tide_relay, tide_publisher, tide_consumer, tide_reader}'),
            ('function', 'execute', '{config_keys}', '{tide_operator, tide_reader, tide_relay}'),
            -- What a capture's trigger calls runs as the schema's owner.
            ('function', 'none', '{outbox_capture_reorder, outbox_capture_refuse, outbox_capture_refuse_key, outbox_capture_refuse_old}', '{}'),
            ('function', 'none', '{outbox_turn, outbox_overdue, outbox_part_done, outbox_part_empty, publishing_now,
                outbox_received_forget, outbox_find, outbox_take_part, outbox_switch, outbox_describe, outbox_publish,
                outbox_publish_refuse, outbox_publish_many, outbox_publish_many_refuse, may_publish, role_name, publishing_grant, publishing_revoke, publishing_functions,
                check_name, check_retention, refuse_unknown, nearest_name, edit_distance,
                inbox_create_partition, inbox_create_part, inbox_delete_trigger, inbox_convert_partition, extension_release,
                inbox_memory_key, inbox_known, inbox_changed, inbox_horizon, inbox_memory_open, inbox_remember,
                inbox_remember_deleted, inbox_remember_truncated, inbox_open_parts, inbox_clean, inbox_move, inbox_truncate,
                inbox_forget, inbox_exchange, inbox_maintain_waits,
                inbox_create_lease_indexes, inbox_check_claim, inbox_check_lease, inbox_check_retry, inbox_source, inbox_prepare, inbox_start, inbox_start_at, inbox_expire,
                inbox_candidates, inbox_with_lease, inbox_refuse_lease, inbox_count_dead,
                inbox_message_id, inbox_backoff, inbox_describe, inbox_describe_memory, copy_grants,
                relay_set, relay_switch, rewind_first_id, rewind_count, node_look, outbox_raise_ids, pipeline_find, pipeline_describe, pipeline_forget_position,
                dead_letter_check_ids, config_check, config_technology, config_check_object, config_check_value,
                config_check_required, config_check_expressions, config_check_expression, config_warn_secret,
                config_refuse, config_refuse_key, config_mask, config_mask_text, config_is_secret, config_is_reference}', '{}'),

            ('table', 'select', '{relay_status, outbox_retention, outbox_captures, outbox_capture, dead_letters, outbox, outbox_part, inbox, outbox_event, inbox_message,
                inbox_rotation, inbox_part, inbox_memory,
                relay_instance, pipeline_owner, pipeline_position, pipeline_mark, pipeline_state, node}',
                '{tide_operator, tide_reader, tide_relay}'),
            ('table', 'select (id, name, direction, outbox_id, inbox_id, enabled, version, created_at, updated_at)',
                '{pipeline}', '{tide_operator, tide_reader}'),
            ('table', 'select', '{inbox_message}', '{tide_consumer}'),
            ('table', 'select', '{dead_letter_sent, pipeline, dead_letter}', '{tide_relay}'),
            ('table', 'select', '{outbox_publisher, inbox_message_0}', '{}'),
            ('table', 'select', '{outbox_id_seq, inbox_id_seq, pipeline_id_seq}', '{}'),
            ('table', 'select', '{outbox_event_id_seq}', '{tide_relay}'),
            ('table', 'select, insert', '{outbox_received}', '{tide_relay}'),
            ('table', 'select, usage', '{inbox_message_id_seq, dead_letter_id_seq}', '{tide_relay}'),
            ('table', 'insert', '{inbox_message}', '{tide_relay}'),
            ('table', 'insert, update, delete', '{relay_instance, pipeline_owner, pipeline_state, dead_letter}', '{tide_relay}'),
            ('table', 'insert, delete', '{pipeline_position, pipeline_mark, dead_letter_sent}', '{tide_relay}')
        ) g (kind, privilege, objects, roles)
    loop
        if entry.kind = 'function' then
            for routine in
                select p.oid from pg_proc p
                where p.pronamespace = 'tide'::regnamespace and p.proname = any(entry.objects)
            loop
                execute format('revoke execute on function %s from public', routine);
            end loop;
        end if;
        continue when entry.privilege = 'none';
        for grantee in
            select r.rolname from pg_roles r
            where r.rolname = any(entry.roles || administrators)
            order by r.rolname
        loop
            execute format('grant usage on schema tide to %I', grantee);
            if entry.kind = 'table' then
                for relation in
                    select c.oid from pg_class c
                    where c.relnamespace = 'tide'::regnamespace and c.relname = any(entry.objects)
                    order by c.relname
                loop
                    execute format('grant %s on %s to %I', entry.privilege, relation, grantee);
                end loop;
            else
                for routine in
                    select p.oid from pg_proc p
                    where p.pronamespace = 'tide'::regnamespace and p.proname = any(entry.objects)
                    order by p.proname
                loop
                    execute format('grant execute on function %s to %I', routine, grantee);
                end loop;
            end if;
        end loop;
    end loop;

    -- Publishing needs rights of its own kind.
    for grantee in
        select r.rolname from pg_roles r
        where r.rolname = any('{tide_publisher}' || administrators)
            or r.rolname in (select o.role_name from tide.outbox_publisher o)
        order by r.rolname
    loop
        perform tide.publishing_grant(grantee);
    end loop;

    -- Partitions of outboxes and inboxes that are there already.
    for entry in
        select t.relid, top.oid as parent
        from unnest(array['tide.outbox_event'::regclass, 'tide.inbox_message', 'tide.inbox_memory']) top (oid)
        cross join pg_partition_tree(top.oid) t
        where t.relid <> top.oid
        order by t.relid
    loop
        perform tide.copy_grants(entry.parent, entry.relid);
    end loop;
end
$$;

-- extension only: begin
-- A dump keeps the rows of these tables and the values of these sequences. The
-- partitions are no members of the extension: a dump has them whole.
do $$
declare
    member regclass;
begin
    for member in
        select d.objid
        from pg_depend d
        join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass
        join pg_class c on c.oid = d.objid and d.classid = 'pg_class'::regclass
        where e.extname = 'pg_tide' and d.deptype = 'e' and c.relkind in ('r', 'S') and not c.relispartition
        order by c.relname
    loop
        perform pg_extension_config_dump(member, '');
    end loop;
end
$$;
-- extension only: end
