-- A ledger written in the publishing transaction: what must be read, and in
-- which order of key. The row lock on counter makes events of one key follow
-- one another, so n is their order of publishing and has no gap.
create table counter (key text primary key, n bigint not null);
create table ledger (event_id uuid primary key, key text, n bigint not null);
create table stranger (id int);

create function publish_keyed(of_key text, count bigint, pause float) returns void language plpgsql as $$
declare
    last bigint;
begin
    update counter set n = n + count where key = of_key returning n into last;
    perform pg_sleep(pause);
    insert into ledger (event_id, key, n)
    select tide.outbox_publish('orders', 'orders', jsonb_build_object('n', last - count + g), '{}', of_key), of_key, last - count + g
    from generate_series(1, count) g;
end
$$;

create function publish_free(count bigint) returns void language sql as $$
    insert into ledger (event_id, n)
    select tide.outbox_publish('orders', 'orders', jsonb_build_object('n', g)), g
    from generate_series(1, count) g;
$$;
