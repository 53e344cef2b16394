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

//go:embed queries/position_load.sql
var positionLoadSQL string

//go:embed queries/position_save.sql
var positionSaveSQL string

//go:embed queries/position_prune.sql
var positionPruneSQL string

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
