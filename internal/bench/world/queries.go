package world

import _ "embed" // the statements

var (
	//go:embed queries/outbox_create.sql
	outboxCreateSQL string
	//go:embed queries/inbox_create.sql
	inboxCreateSQL string
	//go:embed queries/fill_inbox.sql
	fillInboxSQL string
	//go:embed queries/relay_set_outbox_paused.sql
	relaySetOutboxPausedSQL string
	//go:embed queries/relay_enable.sql
	relayEnableSQL string
	//go:embed queries/fill.sql
	fillSQL string
	//go:embed queries/relay_set_outbox.sql
	relaySetOutboxSQL string
	//go:embed queries/relay_set_inbox.sql
	relaySetInboxSQL string
	//go:embed queries/relay_delete.sql
	relayDeleteSQL string
)
