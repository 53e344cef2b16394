package catalog

import "github.com/pg-tide/pg-tide/internal/relay"

var (
	_ relay.Registry    = (*Registry)(nil)
	_ relay.DeadLetters = (*DeadLetters)(nil)
)
