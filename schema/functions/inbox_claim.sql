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
