-- No unique constraint on purpose: a parcel that is sent twice shall show.
create table shipments (id bigint generated always as identity primary key, event_id text, subject text, seq bigint, what text);
select tide.inbox_create('shipping_triggers');
