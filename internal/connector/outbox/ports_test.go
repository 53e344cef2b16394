package outbox

import "github.com/pg-tide/pg-tide/internal/relay"

var (
	_ relay.Reader   = (*Reader)(nil)
	_ relay.Rewinder = (*Reader)(nil)
)
