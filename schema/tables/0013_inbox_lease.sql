-- A worker's lease on a message. It lasts until next_attempt_at: a message
-- that is leased, as one that waits after a failure, is not to be had before.
-- The indexes come with the partitions (functions/inbox_partition.sql).
alter table tide.inbox_message
    add column lease_token uuid,
    add column leased_by   text;
comment on column tide.inbox_message.next_attempt_at is 'Not to be had before this time: after a failure, or because a worker has a lease on it until then.';
comment on column tide.inbox_message.lease_token is 'The lease that a worker has on the message; null when nobody has.';
comment on column tide.inbox_message.leased_by is 'Who has the lease.';
