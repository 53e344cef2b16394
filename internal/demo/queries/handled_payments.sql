select event_id, order_id, seq from payments order by id
