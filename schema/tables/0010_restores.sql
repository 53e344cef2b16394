-- What it takes to notice that a database is a copy, was restored, or lost
-- what it had committed.

-- The timeline of the cluster's log when a relay last looked: a promotion or a
-- point-in-time restore begins another. Null where the server does not tell.
alter table tide.node add column timeline integer;

-- In which incarnation of the database somebody last spoke for this pipeline:
-- configured or adopted it. Below the node's, no relay runs it.
alter table tide.pipeline add column incarnation integer not null default 1;
alter table tide.pipeline add column adopted_at timestamptz not null default clock_timestamp();
update tide.pipeline p
set incarnation = n.incarnation
from tide.node n
where p.incarnation <> n.incarnation;

-- When the server was started in which the ownership was taken. An ownership
-- holds for one run of one server: whatever a relay keeps in memory was read
-- there. A standby that was promoted behind its back, or a pooler that now
-- leads elsewhere, has another start time, and its log may lack what was read.
alter table tide.pipeline_owner add column server_started_at timestamptz;

-- How far each reverse pipeline has durably taken in its source. Rows are
-- added, never updated, for the reason of tide.pipeline_position; the greatest
-- seq counts.
create table tide.pipeline_mark (
    pipeline_id integer     not null references tide.pipeline (id) on delete cascade,
    seq         bigint      not null,
    -- names the source's log for ever: another stream of the same name is another origin
    origin      text        not null,
    sequence    numeric(20) not null,
    delivery    numeric(20) not null,
    -- how far, of a source with several logs, as the relay wrote it
    places      jsonb,
    timeline    integer,
    saved_at    timestamptz not null default clock_timestamp(),
    primary key (pipeline_id, seq)
);
comment on table tide.pipeline_mark is 'How far each reverse pipeline has durably taken in its source.';

-- Its result has another shape from now on.
do $$
begin
    -- asked, so that nobody is told of what a new database never had
    if to_regprocedure('tide.node_check(bigint, oid)') is not null then
        drop function tide.node_check(bigint, oid);
    end if;
end
$$;
