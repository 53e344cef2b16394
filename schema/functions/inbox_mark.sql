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
