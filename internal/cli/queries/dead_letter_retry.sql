select tide.dead_letter_retry($1::text, case when $3::boolean
    then array(select d.id from tide.dead_letters d where d.pipeline = $1::text)
    else $2::bigint[] end)
