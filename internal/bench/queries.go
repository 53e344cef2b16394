package bench

import _ "embed" // the statements

var (
	//go:embed queries/outbox_create.sql
	outboxCreateSQL string
	//go:embed queries/inbox_create.sql
	inboxCreateSQL string
	//go:embed queries/fill.sql
	fillSQL string
	//go:embed queries/relay_set_outbox.sql
	relaySetOutboxSQL string
	//go:embed queries/relay_set_inbox.sql
	relaySetInboxSQL string
	//go:embed queries/relay_delete.sql
	relayDeleteSQL string
	//go:embed queries/by_hand.sql
	byHandSQL string
	//go:embed queries/change.sql
	changeSQL string
	//go:embed queries/publish.sql
	publishSQL string
	//go:embed queries/publish_many.sql
	publishManySQL string
	//go:embed queries/insert.sql
	insertSQL string
	//go:embed queries/insert_many.sql
	insertManySQL string
	//go:embed queries/arrived.sql
	arrivedSQL string
	//go:embed queries/transactions.sql
	transactionsSQL string
	//go:embed queries/insert_by_function.sql
	insertByFunctionSQL string
)
