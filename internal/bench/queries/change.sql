insert into placed_order (customer) values ($1)
