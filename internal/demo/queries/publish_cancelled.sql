select tide.outbox_publish('order_events', 'orders', jsonb_build_object(
  'event_type', 'order.cancelled',
  'order_id', $1::text,
  'seq', 2
), key => $1, op => 'update')::text
