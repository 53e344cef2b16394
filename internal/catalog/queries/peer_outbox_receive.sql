-- Publishes those events that the outbox did not get before. What it publishes
-- survives a crash there, as in peer_inbox_insert.sql.
select tide.outbox_receive($1::text, $2::text[]::uuid[], $3::text[]::jsonb[], $4::text[], $5::text[]::jsonb[], $6::text[], $7::text[]) as added,
       case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'local', true) end as setting
