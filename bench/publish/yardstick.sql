insert into plain (stream, key, payload) values ('orders', $1, $2)
