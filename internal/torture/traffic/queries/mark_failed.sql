select tide.inbox_mark_failed($1, $2::bigint, 'the worker says no', interval '300 milliseconds')
