insert into orders (id, customer_id, total, status)
values ($1, $2, $3, 'created')
