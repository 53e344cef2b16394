-- What the payment service keeps in its database, where the schema tide is
-- installed. A real table would have order_id unique; this one would show an
-- effect that happened twice.
create table customers (
    id   text primary key,
    paid numeric not null default 0
);
create table payments (
    id       bigint generated always as identity primary key,
    order_id text not null,
    customer text not null,
    amount   numeric not null
);

select tide.inbox_create('payment_triggers', max_attempts => 8);
select tide.outbox_create('payment_events');

-- The service needs no more than this.
grant tide_consumer to payment_service;
select tide.outbox_grant_publish('payment_events', 'payment_service');
grant select, insert, update on customers, payments to payment_service;
