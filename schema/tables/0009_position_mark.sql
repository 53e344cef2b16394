-- What the far end had given as proof when the position was saved: by it a
-- relay finds out later whether the far end lost something. Null where it gives none.
alter table tide.pipeline_position add column mark jsonb;
comment on column tide.pipeline_position.mark is 'By what the sink can tell that it still has everything up to here; null when it cannot.';
