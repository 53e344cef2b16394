update orders set status = 'cancelled' where id = $1
