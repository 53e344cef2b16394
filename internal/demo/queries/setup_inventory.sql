create table stock (sku text primary key, on_hand integer, version bigint);
insert into stock
select 'SKU-' || n, 1000, 0 from generate_series(1, 8) n;
select tide.outbox_create('stock_events');
