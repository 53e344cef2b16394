package builtin

import (
	"fmt"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/relay"
)

// readAhead is how many times as many events as a sink stores at once a
// transaction may have to be read at once: a filter may leave few of them.
const readAhead = 4

// keepTransactions makes a pipeline keep transactions whole, and refuses what
// would tear them.
func keepTransactions(plan *relay.Plan, values config.Values, key string, most int) error {
	if lanes := plan.Limits.Lanes; lanes > 1 {
		return fmt.Errorf("key %q is %d, and a pipeline that keeps transactions whole has one lane, since a transaction's events may have any keys; leave out lanes, or %s", "lanes", lanes, key)
	}
	switch {
	case !values.Has("on_error"):
		plan.Limits.OnError = pipeline.Block
	case plan.Limits.OnError == pipeline.ParkKey:
		return fmt.Errorf("key %q is %q, which keeps the events of one key back and would tear their transactions (%s); choose block, which is the default then, or dead_letter, which sets whole transactions aside", "on_error", pipeline.ParkKey, key)
	}
	keeper, keeps := plan.Reader.(relay.Keeper)
	if !keeps {
		return fmt.Errorf("key %q asks for whole transactions, and the outbox's reader does not keep them", key)
	}
	keeper.KeepTransactions(readAhead * most)
	return nil
}
