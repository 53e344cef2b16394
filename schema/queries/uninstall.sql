-- Drops what is ours in schema tide, and nothing that depends on it: then the
-- whole fails and says what that is. The names come in settings.
do $$
declare
    function_names name[] := current_setting('pg_tide.functions')::name[];
    relation_names name[] := current_setting('pg_tide.relations')::name[];
    namespace      oid := 'tide'::regnamespace;
    kind           record;
    names          text;
begin
    -- Those of captured tables depend on our functions, and keep the extension
    -- from being dropped.
    for kind in
        select t.tgname, t.tgrelid::regclass as relation
        from pg_trigger t
        join pg_class c on c.oid = t.tgrelid
        join pg_proc p on p.oid = t.tgfoid
        where p.pronamespace = namespace and p.proname in ('outbox_capture_began', 'outbox_capture_changed', 'outbox_capture_truncated')
            and not t.tgisinternal
    loop
        execute format('drop trigger %I on %s', kind.tgname, kind.relation);
    end loop;
    if exists (select from pg_extension e where e.extname = 'pg_tide') then
        drop extension pg_tide;
    else
        drop policy if exists outbox_event_publish on tide.outbox_event;
        drop policy if exists outbox_event_read on tide.outbox_event;
        -- Those of the inboxes' partitions call our functions, which go first.
        for kind in
            select t.tgname, t.tgrelid::regclass as relation
            from pg_trigger t
            join pg_proc p on p.oid = t.tgfoid
            where p.pronamespace = namespace and p.proname = any(function_names) and not t.tgisinternal
        loop
            execute format('drop trigger %I on %s', kind.tgname, kind.relation);
        end loop;
        for kind in
            select k.word, k.relkinds
            from (values ('view', '{v}'::"char"[]), ('function', '{}'), ('table', '{r,p}'), ('sequence', '{S}')) k (word, relkinds)
        loop
            if kind.word = 'function' then
                select string_agg(p.oid::regprocedure::text, ', ') into names
                from pg_proc p
                where p.pronamespace = namespace and p.proname = any(function_names);
            else
                select string_agg(c.oid::regclass::text, ', ') into names
                from pg_class c
                where c.relnamespace = namespace and c.relname = any(relation_names) and c.relkind = any(kind.relkinds);
            end if;
            if names is not null then
                execute format('drop %s %s', kind.word, names);
            end if;
        end loop;
    end if;
    if exists (select from pg_class c where c.relnamespace = namespace)
        or exists (select from pg_proc p where p.pronamespace = namespace)
        or exists (select from pg_type t where t.typnamespace = namespace)
    then
        raise notice 'schema tide stays: it holds objects that are not pg_tide''s';
    elsif not pg_has_role((select n.nspowner from pg_namespace n where n.oid = namespace), 'usage') then
        raise notice 'schema tide stays, empty: another role owns it';
    else
        drop schema tide;
    end if;
end
$$
