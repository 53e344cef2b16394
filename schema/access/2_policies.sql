-- Publishing runs with the publisher's rights; which outboxes it may write to,
-- this policy asks. The reader's policy lets everybody see what grants allow.
-- Made once: each time would lock out publishers.
do $$
begin
    if not (select c.relrowsecurity from pg_class c where c.oid = 'tide.outbox_event'::regclass) then
        create policy outbox_event_publish on tide.outbox_event for insert with check (tide.may_publish(part));
        create policy outbox_event_read on tide.outbox_event for select using (true);
        alter table tide.outbox_event enable row level security;
    end if;
end
$$;
