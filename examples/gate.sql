-- Where a worker can be held: before it has written anything, when it has
-- written all, and when it commits. It waits there for whoever has the
-- gate's advisory lock.
create table gate (
    customer text not null,
    point    text not null,
    number   integer not null
);

create function wait_at_gate() returns trigger
language plpgsql
security definer
as $$
begin
    perform pg_advisory_xact_lock_shared(7, g.number)
    from gate g
    where g.customer = coalesce(to_jsonb(new)->>'customer', to_jsonb(new)->>'id') and g.point = tg_argv[0];
    return new;
end
$$;

create trigger gate_start before insert on payments
    for each row execute function wait_at_gate('start');
create trigger gate_written after update on customers
    for each row execute function wait_at_gate('written');
create constraint trigger gate_commit after insert on payments deferrable initially deferred
    for each row execute function wait_at_gate('commit');
