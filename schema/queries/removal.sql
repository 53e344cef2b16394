select
    (select count(*) from tide.outbox),
    (select count(*) from tide.inbox),
    (select count(*) from tide.pipeline),
    (select count(*) from (select from tide.outbox_event limit 1000001) t),
    (select count(*) from (select from tide.inbox_message limit 1000001) t),
    (select count(*) from tide.dead_letter),
    -- by the triggers, and each id once: released versions have no table of captures
    (select count(distinct split_part(encode(t.tgargs, 'escape'), '\000', 1))
     from pg_catalog.pg_trigger t
     join pg_catalog.pg_proc p on p.oid = t.tgfoid
     where p.pronamespace = 'tide'::pg_catalog.regnamespace and p.proname = 'outbox_capture_changed')
