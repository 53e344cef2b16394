-- No unique constraint on purpose: a payment that is taken twice shall show.
create table payments (id bigint generated always as identity primary key, event_id text, order_id text, seq bigint, what text);
select tide.inbox_create('payment_triggers');
