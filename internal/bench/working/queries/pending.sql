select id from tide.inbox_pending('arrived') limit $1
