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
