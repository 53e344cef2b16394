update job set state = 'done', done_at = now() where id = any($1)
