package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

// PageRequest asks for the events that a position has not seen.
type PageRequest struct {
	Owner    Owner
	OutboxID int64
	// Parts is the array literal from Start or from the page before.
	Parts string
	// LateXIDs were in progress at the position's snapshot; XMax is its end,
	// Bound the position's: transactions in [XMax, Bound) may be late too.
	LateXIDs    []uint64
	XMax, Bound uint64
	// FloorID and LastID are the position's.
	FloorID, LastID int64
	// DrainID is the id that a round of late events has got to.
	DrainID int64
	// Limit and Bytes bound a page; it holds one event at least.
	Limit int
	Bytes int64
	// Outbox and Source are copied into the messages.
	Outbox, Source string
	// Expect is the size of the page before: buffers are made that large.
	Expect Size
}

// Size is how much a page holds.
type Size struct {
	Events, TextBytes, JSONBytes int
}

// Page is what a statement found.
type Page struct {
	// Messages are in no order; late ones have ids up to LastID.
	Messages []message.Message
	// Snapshot is the one that the statement saw the database by.
	Snapshot string
	// Bound is an xid assigned after Snapshot was taken; 0 when there are no messages.
	Bound uint64
	// Overflow says that more late events exist than fit a page; Messages is empty.
	Overflow bool
	// Size is that of Messages.
	Size Size
	// Parts are the outbox's by that snapshot. When they differ from the
	// request's, Messages is empty: ask again with these.
	Parts string
}

var partsPlaceholder = regexp.MustCompile(`'\{0\}'`)

func partsLiteral(parts []int32) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(p)))
	}
	b.WriteByte('}')
	return b.String()
}

// ReadPage reads late events and then fresh ones.
func (c *Catalog) ReadPage(ctx context.Context, r PageRequest) (Page, error) {
	return c.readPage(ctx, r, pageQuery(fenced(pageReadSQL), r.Parts),
		r.Owner.PipelineID, c.relay.ID, r.Owner.Fence, r.OutboxID,
		r.LateXIDs, r.FloorID, r.LastID, r.XMax, r.Bound, r.Limit, r.Bytes)
}

// ReadDrain reads the late events of LateXIDs after DrainID.
func (c *Catalog) ReadDrain(ctx context.Context, r PageRequest) (Page, error) {
	return c.readPage(ctx, r, pageQuery(fenced(drainReadSQL), r.Parts),
		r.Owner.PipelineID, c.relay.ID, r.Owner.Fence, r.OutboxID,
		r.LateXIDs, max(r.DrainID, r.FloorID), r.LastID, r.Limit, r.Bytes)
}

// StartDrain returns the transactions whose late events are to be drained,
// and the snapshot of the round: the given one, or now when it is empty.
// otherHistory says that the given one cannot be compared with rows.
func (c *Catalog) StartDrain(ctx context.Context, r PageRequest, snapshot string, otherHistory bool) (string, []uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var fixed *string
	if snapshot != "" {
		fixed = &snapshot
	}
	var xids []uint64
	batch := &pgx.Batch{}
	batch.Queue(pageSettingsSQL)
	batch.Queue(pageQuery(drainStartSQL, r.Parts),
		r.LateXIDs, r.FloorID, r.LastID, r.XMax, r.Bound, otherHistory, fixed).QueryRow(func(row pgx.Row) error {
		return row.Scan(&snapshot, &xids)
	})
	err := c.pool.SendBatch(ctx, batch).Close()
	if err != nil {
		return "", nil, c.explain("look for late events", err)
	}
	return snapshot, xids, nil
}

func (c *Catalog) readPage(ctx context.Context, r PageRequest, sql string, args ...any) (Page, error) {
	const doing = "read the outbox"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	settings, batch := pageSettings(), &pgx.Batch{}
	batch.Queue(settings)
	batch.Queue(sql, args...)
	var page Page
	var owned bool
	err := c.often(ctx, func(conn *pgx.Conn) (err error) {
		results := conn.SendBatch(ctx, batch)
		page, owned, err = decodePage(results, r)
		fault.At(fault.ForwardBeforeReadCommit)
		// Close waits for the commit and has its failure: until then nothing of
		// the page may be used.
		return errors.Join(err, results.Close())
	}, settings, sql)
	if err != nil {
		return Page{}, c.explain(doing, err)
	}
	if !owned {
		return Page{}, superseded(doing)
	}
	if len(page.Messages) > 0 && page.Bound == 0 {
		return Page{}, fmt.Errorf("%s: events without a bound", doing)
	}
	return page, nil
}

func decodePage(results pgx.BatchResults, r PageRequest) (page Page, owned bool, err error) {
	if _, err := results.Exec(); err != nil {
		return Page{}, false, err
	}
	rows, err := results.Query()
	if err != nil {
		return Page{}, false, err
	}
	defer rows.Close()
	if !rows.Next() {
		rows.Close()
		return Page{}, false, errors.Join(errors.New("no snapshot was returned"), rows.Err())
	}
	var bound *string
	var overflow bool
	var skip [eventColumns]any
	targets := append(skip[:], &page.Snapshot, &owned, &page.Parts, &overflow, &bound)
	if err := rows.Scan(targets...); err != nil {
		return Page{}, false, err
	}
	page.Overflow = overflow
	if bound != nil {
		if page.Bound, err = strconv.ParseUint(*bound, 10, 64); err != nil {
			return Page{}, false, err
		}
	}
	decoder := newDecoder(r)
	for rows.Next() {
		if err := decoder.add(rows.RawValues()); err != nil {
			return Page{}, false, err
		}
	}
	page.Messages, page.Size = decoder.messages(), decoder.size()
	return page, owned, rows.Err()
}

// PageSQL is the statements of ReadPage, for those who look at its plan.
func PageSQL(parts string) (settings, page string) {
	return pageSettingsSQL, pageQuery(pageReadSQL, parts)
}
