select tide.outbox_publish('order_events', 'orders', jsonb_build_object(
  'event_type', 'order.created',
  'order_id', $1::text,
  'customer_id', $2::text,
  'total', $3::numeric,
  'items', jsonb_build_array(
    jsonb_build_object('sku', 'WIDGET-A', 'qty', 2),
    jsonb_build_object('sku', 'GADGET-B', 'qty', 1)
  ),
  'seq', 1
), key => $1)::text
