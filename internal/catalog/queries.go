package catalog

import "embed"

// queries holds every statement, for the test that prepares them all.
//
//go:embed queries/*.sql
var queries embed.FS

//go:embed queries/schema_check.sql
var schemaCheckSQL string

//go:embed queries/page_read.sql
var pageReadSQL string

//go:embed queries/drain_start.sql
var drainStartSQL string

//go:embed queries/drain_read.sql
var drainReadSQL string

//go:embed queries/transaction_extent.sql
var transactionExtentSQL string

//go:embed queries/position_load.sql
var positionLoadSQL string

//go:embed queries/position_save.sql
var positionSaveSQL string

//go:embed queries/position_prune.sql
var positionPruneSQL string

//go:embed queries/position_expire.sql
var positionExpireSQL string

//go:embed queries/position_marked.sql
var positionMarkedSQL string

//go:embed queries/position_rewind.sql
var positionRewindSQL string

//go:embed queries/gate_lock.sql
var gateLockSQL string

//go:embed queries/gate_unlock.sql
var gateUnlockSQL string

//go:embed queries/listen_check.sql
var listenCheckSQL string

//go:embed queries/listen_outbox.sql
var listenOutboxSQL string

//go:embed queries/listen_relay.sql
var listenRelaySQL string

//go:embed queries/config_version.sql
var configVersionSQL string

//go:embed queries/session_pid.sql
var sessionPIDSQL string

//go:embed queries/relay_heartbeat.sql
var relayHeartbeatSQL string

//go:embed queries/relay_beat.sql
var relayBeatSQL string

//go:embed queries/relay_bury.sql
var relayBurySQL string

//go:embed queries/pipeline_claim.sql
var pipelineClaimSQL string

//go:embed queries/pipeline_owned.sql
var pipelineOwnedSQL string

//go:embed queries/pipeline_release.sql
var pipelineReleaseSQL string

//go:embed queries/relay_leave.sql
var relayLeaveSQL string

//go:embed queries/pipeline_report.sql
var pipelineReportSQL string

//go:embed queries/node_check.sql
var nodeCheckSQL string

//go:embed queries/inbox_insert.sql
var inboxInsertSQL string

//go:embed queries/dead_letter_add.sql
var deadLetterAddSQL string

//go:embed queries/dead_letter_count.sql
var deadLetterCountSQL string

//go:embed queries/dead_letter_due.sql
var deadLetterDueSQL string

//go:embed queries/dead_letter_remove.sql
var deadLetterRemoveSQL string

//go:embed queries/dead_letter_return.sql
var deadLetterReturnSQL string

//go:embed queries/dead_letter_held.sql
var deadLetterHeldSQL string

//go:embed queries/page_settings.sql
var pageSettingsSQL string

//go:embed queries/outbox_drawn.sql
var outboxDrawnSQL string

//go:embed queries/maintain.sql
var maintainSQL string

//go:embed queries/outbox_sizes.sql
var outboxSizesSQL string

//go:embed queries/inbox_maintain.sql
var inboxMaintainSQL string

//go:embed queries/maintain_isolation.sql
var maintainIsolationSQL string

//go:embed queries/mark_load.sql
var markLoadSQL string

//go:embed queries/mark_prune.sql
var markPruneSQL string

//go:embed queries/mark_save.sql
var markSaveSQL string

//go:embed queries/inbox_claim.sql
var inboxClaimSQL string

//go:embed queries/inbox_complete.sql
var inboxCompleteSQL string

//go:embed queries/inbox_fail.sql
var inboxFailSQL string

//go:embed queries/inbox_extend.sql
var inboxExtendSQL string

//go:embed queries/inbox_release.sql
var inboxReleaseSQL string

//go:embed queries/peer_check.sql
var peerCheckSQL string

//go:embed queries/peer_inbox.sql
var peerInboxSQL string

//go:embed queries/peer_inbox_insert.sql
var peerInboxInsertSQL string

//go:embed queries/peer_outbox.sql
var peerOutboxSQL string

//go:embed queries/peer_outbox_receive.sql
var peerOutboxReceiveSQL string

//go:embed queries/peer_inbox_knows.sql
var peerInboxKnowsSQL string

//go:embed queries/peer_outbox_knows.sql
var peerOutboxKnowsSQL string
