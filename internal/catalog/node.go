package catalog

import (
	"context"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// Node is what the database is.
type Node struct {
	// DatabaseID is the first element of its events' source.
	DatabaseID string
	// Incarnation grows when the database is found to be a copy or restored.
	Incarnation int
	// FloorID is the greatest outbox id at that moment.
	FloorID int64
}

// CheckNode lets the database notice that it was restored, copied or promoted
// since a relay last worked in it. It comes before anything is read from an outbox.
func (c *Catalog) CheckNode(ctx context.Context) (Node, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var n Node
	var noticed string
	err := c.pool.QueryRow(ctx, nodeCheckSQL).Scan(&n.DatabaseID, &n.Incarnation, &n.FloorID, &noticed)
	if err != nil {
		return Node{}, c.explain("check which database this is", err)
	}
	if noticed != "" {
		c.log.Warn("the database has another history than before", "noticed", noticed, "incarnation", n.Incarnation)
	}
	return n, nil
}

// notAdopted is why a pipeline of a copy does not run: whether the original
// lives on, and would be disturbed, cannot be seen from here.
func notAdopted(pipeline string) error {
	return delivery.Misconfigured(&Error{
		Problem: fmt.Sprintf("pipeline %q was configured in another database, of which this one is a copy, a restore or an upgrade", pipeline),
		Hint: fmt.Sprintf("if this one takes its place: `pg-tide pipeline adopt %s`; "+
			"if the other lives on: delete the pipeline here, or configure it for another far end", pipeline)})
}

// beyondHistory is why a position cannot be gone on from.
func beyondHistory(pipeline, reason string) error {
	return delivery.Misconfigured(&Error{
		Problem: fmt.Sprintf("the position of pipeline %q lies beyond what this database has: %s; "+
			"its log was reset, or its tables were restored singly", pipeline, reason),
		Hint: fmt.Sprintf("`pg-tide pipeline adopt %s` sends again all that the outbox retains, with the same event ids", pipeline)})
}
