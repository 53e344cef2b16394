select
    (select count(*) from tide.outbox),
    (select count(*) from tide.inbox),
    (select count(*) from tide.pipeline),
    (select count(*) from (select from tide.outbox_event limit 1000001) t),
    (select count(*) from (select from tide.inbox_message limit 1000001) t),
    (select count(*) from tide.dead_letter)
