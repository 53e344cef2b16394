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
