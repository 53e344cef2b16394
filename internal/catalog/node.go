package catalog

import "context"

// Node is what the database is.
type Node struct {
	// DatabaseID is the first element of its events' source.
	DatabaseID string
	// Incarnation grows when the database is found to be a copy or restored.
	Incarnation int
	// FloorID is the greatest outbox id at that moment.
	FloorID int64
}

// CheckNode lets the database notice that it was restored or copied since a
// relay last worked in it. It comes before anything is read from an outbox.
func (c *Catalog) CheckNode(ctx context.Context) (Node, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var n Node
	err := c.pool.QueryRow(ctx, nodeCheckSQL).Scan(&n.DatabaseID, &n.Incarnation, &n.FloorID)
	if err != nil {
		return Node{}, c.explain("check which database this is", err)
	}
	return n, nil
}
