create table orders (id text primary key, customer_id text, total numeric, status text);
select tide.outbox_create('order_events');
