-- An inbox's messages live in three partitions of which one takes new ones.
-- When the retention has passed, a partition's event ids go to the inbox's
-- memory and the partition is truncated; nothing is deleted. The memory has
-- three partitions as well, which are truncated after another retention.
--
-- Inboxes that are there already get their partitions when the functions are
-- in place (access/2_inboxes.sql). Locks: ACCESS EXCLUSIVE on
-- tide.inbox_message; nothing is rewritten.
alter table tide.inbox_message add column part integer not null default 0;
comment on column tide.inbox_message.part is 'Which of the inbox''s three partitions the message is in.';
comment on table tide.inbox_message is 'Messages of all inboxes; those of one inbox are the relation "<name>_inbox".';

-- Where new messages and memories of an inbox go. One row an inbox, changed
-- only when parts are exchanged or rows are removed by hand.
create table tide.inbox_rotation (
    inbox_id    integer     primary key references tide.inbox (id) on delete cascade,
    part        integer     not null default 0,
    memory_part integer     not null default 0,
    -- an event published after this is in the current part, or is new
    horizon     timestamptz not null default '-infinity',
    -- no event was received whose time is later than this; null: none from the future
    latest      timestamptz,
    -- the last transaction that removed messages in another way than marking them
    changed_by  xid8
);
comment on table tide.inbox_rotation is 'Which partitions of each inbox take new messages and new memories.';

-- Parts that hold something, or may.
create table tide.inbox_part (
    inbox_id      integer     not null references tide.inbox (id) on delete cascade,
    kind          text        not null check (kind in ('messages', 'memory')),
    part          integer     not null,
    -- null while the part is empty and waits for its turn
    opened_at     timestamptz,
    -- null until another part took its place
    closed_at     timestamptz,
    -- event ids of messages up to this id are in the memory
    remembered_id bigint      not null default 0,
    -- since when cleaning it waits for somebody's lock
    waiting_since timestamptz,
    primary key (inbox_id, kind, part)
);
comment on table tide.inbox_part is 'The partitions of each inbox and of its memory, and how far their life has gone.';

-- Event ids whose messages are gone, as 16 bytes each.
create table tide.inbox_memory (
    event    uuid    not null,
    inbox_id integer not null,
    part     integer not null
) partition by range (inbox_id, part);
comment on table tide.inbox_memory is 'Event ids that inboxes remember although their messages are cleaned.';
