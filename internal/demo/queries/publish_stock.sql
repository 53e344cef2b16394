select tide.outbox_publish('stock_events', 'stock', jsonb_build_object(
  'event_type', 'stock.changed',
  'sku', $1::text,
  'on_hand', $2::integer,
  'seq', $3::bigint
), key => $1, op => 'update')::text
