package catalog

import (
	"context"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

// Start is where a reader's session begins.
type Start struct {
	Position message.Position
	// Outbox is the outbox's name, Parts its partitions, as the array literal
	// that stands in the text of a page's statement.
	Outbox string
	Parts  string
	// DatabaseID is the first element of the events' source.
	DatabaseID string
	// Incarnation and FloorID are the database's, for positions yet to come.
	Incarnation int
	FloorID     int64
}

// beginning is the position of a pipeline that has never saved one: nothing
// was seen, so all that the outbox retains will be delivered.
func beginning(incarnation int, floorID int64) message.Position {
	return message.Position{Snapshot: "1:1:", Bound: 3, FloorID: floorID, Incarnation: incarnation}
}

// LoadPosition reads where a pipeline's reader starts. Before, the database is
// asked what it is: the connection that was lost may have come back to a
// restored copy. In a copy that nobody has spoken for, and from a position that
// the database cannot have saved itself, no reader starts.
func (c *Catalog) LoadPosition(ctx context.Context, pipelineID, outboxID int64) (Start, error) {
	if _, err := c.CheckNode(ctx); err != nil {
		return Start{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var s Start
	var outbox, snapshot, drainSnapshot, mark *string
	var seq, lastID, floorID, drainID *int64
	var bound *uint64
	var incarnation *int
	var parts []int32
	var pipeline, beyond *string
	var adopted *bool
	err := c.pool.QueryRow(ctx, positionLoadSQL, pipelineID, outboxID).Scan(
		&s.Incarnation, &s.FloorID, &s.DatabaseID, &outbox, &parts,
		&seq, &snapshot, &lastID, &bound, &floorID, &drainSnapshot, &drainID, &incarnation, &mark,
		&pipeline, &adopted, &beyond)
	if err != nil {
		return Start{}, c.explain("read the position", err)
	}
	if outbox == nil || len(parts) == 0 {
		return Start{}, delivery.Misconfigured(&Error{
			Problem: fmt.Sprintf("the outbox of pipeline %d does not exist any more", pipelineID),
			Hint:    "create the outbox and set the pipeline again, or delete the pipeline"})
	}
	if pipeline != nil && !*adopted {
		return Start{}, notAdopted(*pipeline)
	}
	if pipeline != nil && beyond != nil {
		return Start{}, beyondHistory(*pipeline, *beyond)
	}
	s.Outbox = *outbox
	s.Parts = partsLiteral(parts)
	if seq == nil {
		s.Position = beginning(s.Incarnation, s.FloorID)
		return s, nil
	}
	s.Position = message.Position{Sequence: *seq, Snapshot: *snapshot, LastID: *lastID, Bound: *bound,
		FloorID: *floorID, Incarnation: *incarnation}
	if drainSnapshot != nil {
		s.Position.DrainSnapshot, s.Position.DrainID = *drainSnapshot, *drainID
	}
	if mark != nil {
		s.Position.Mark = *mark
	}
	return s, nil
}

// SavePosition saves p under its Sequence. It fails with the verdict
// superseded when another relay owns the pipeline, and with a retry when
// somebody else saved under that sequence.
func (c *Catalog) SavePosition(ctx context.Context, owner Owner, p message.Position) error {
	const doing = "save the position"
	var drainSnapshot *string
	var drainID *int64
	if p.DrainSnapshot != "" {
		drainSnapshot, drainID = &p.DrainSnapshot, &p.DrainID
	}
	var mark *string
	if p.Mark != "" {
		mark = &p.Mark
	}
	n, err := c.execOften(ctx, doing, fenced(positionSaveSQL),
		owner.PipelineID, c.relay.ID, owner.Fence, p.Sequence, p.Snapshot, p.LastID, p.Bound,
		p.FloorID, drainSnapshot, drainID, p.Incarnation, mark)
	if err != nil {
		return err
	}
	if n == 0 {
		return superseded(doing)
	}
	return nil
}

// pageQuery puts the parts where the statement has '{0}'.
func pageQuery(sql, parts string) string {
	return partsPlaceholder.ReplaceAllLiteralString(sql, "'"+parts+"'")
}
