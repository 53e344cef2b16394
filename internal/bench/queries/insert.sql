insert into by_hand (stream, key, payload) values ('orders', $1, $2)
