-- How much the sources of reverse pipelines have left. Only the relay can ask them.
alter table tide.pipeline_state add column lag_events bigint;
comment on column tide.pipeline_state.lag_events is 'How many messages the source of a reverse pipeline had left; null when it does not say, and for forward pipelines, whose backlog is counted in the outbox.';
