select case
           when $3::boolean then '-infinity'
           when $1::text is not null then $1::text::timestamptz
           else now() - $2::bigint * interval '1 microsecond'
       end::text as from_time
