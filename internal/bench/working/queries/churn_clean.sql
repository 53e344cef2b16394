select (tide.inbox_maintain('arrived') ->> 'more')::boolean
