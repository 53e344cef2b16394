-- What the far end had given as proof when the position was saved: by it a
-- relay finds out later whether the far end lost something. Null where it gives none.
alter table tide.pipeline_position add column mark jsonb;
comment on column tide.pipeline_position.mark is 'By what the sink can tell that it still has everything up to here; null when it cannot.';

-- Events that were sent late, as retried dead letters: the positions saved
-- before say nothing of them, since they lie far below. Whoever goes back to a
-- position from before that time sends them again, too.
create table tide.dead_letter_sent (
    pipeline_id integer     not null references tide.pipeline (id) on delete cascade,
    outbox_id   bigint      not null,
    sent_at     timestamptz not null default clock_timestamp()
);
create index dead_letter_sent_idx on tide.dead_letter_sent (pipeline_id, sent_at);
comment on table tide.dead_letter_sent is 'Events that were delivered as retried dead letters within the outbox''s retention.';
