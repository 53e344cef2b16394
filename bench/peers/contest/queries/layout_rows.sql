create table layout as
select ('0191f6a0-0000-7000-8000-00000000000' || n)::uuid as id, aggregatetype, aggregateid, payload
from (values (1, 'orders', 'ORD-001', '{"a": 1, "nested": {"list": [1, 2.50, null, true]}}'::jsonb),
             (2, 'orders', '17', '{"text": "Ä \"quoted\" <&> \\ 😀", "empty": {}}'),
             (3, 'customers', 'a b', '[1, {"b": 2}]'),
             (4, 'orders', 'ORD/002', '{"n": 123456789012345678901234567890.125}'),
             (5, 'order_lines', 'x:y', '"a text"')) as rows (n, aggregatetype, aggregateid, payload);
