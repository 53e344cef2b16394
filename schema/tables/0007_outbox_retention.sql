-- An outbox's partitions are a ring: the current one takes new events, retired
-- ones keep theirs for the retention, emptied ones wait in reserve.
alter table tide.outbox
    -- above this an outbox's size is reported as a problem
    add column warn_bytes bigint not null default 10737418240 check (warn_bytes > 0);

alter table tide.outbox_part
    -- when it ceased to take new events; null while it is current, in reserve or unused
    add column retired_at timestamptz,
    -- transactions that may not know yet that the partition exists: they would
    -- fail to publish to it, so it becomes current when they have ended; null
    -- until they were looked for
    add column unseen_by  text[]      default '{}',
    -- whether sessions were told once more that it exists, after those had ended
    add column announced  boolean     not null default true;
