package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

// longestIdentity is what an index entry takes without trouble.
const longestIdentity = 500

// DeadLetters keeps what one pipeline could not deliver.
type DeadLetters struct {
	catalog *Catalog
	owner   Owner
}

// DeadLetters returns the dead letters of a pipeline that this relay owns.
func (c *Catalog) DeadLetters(owner Owner) *DeadLetters {
	return &DeadLetters{catalog: c, owner: owner}
}

// Add stores letters durably, all or none. Adding one again changes its error
// and attempts only, and nothing when it was never attempted this time. What jsonb refuses is kept in the body.
func (d *DeadLetters) Add(ctx context.Context, letters []message.DeadLetter) error {
	const doing = "add dead letters"
	if fault.Mutant(fault.DropLetters) {
		return nil
	}
	fault.At(fault.LettersBeforeAdd)
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, d.catalog.pool, func(tx pgx.Tx) error {
		for i := range letters {
			if err := d.add(ctx, tx, &letters[i]); err != nil {
				return err
			}
		}
		fault.At(fault.LettersAmidAdd)
		return nil
	})
	if err == nil {
		fault.At(fault.LettersAfterAdd)
	}
	var verdict *delivery.Error
	if errors.As(err, &verdict) {
		return err
	}
	return d.catalog.explain(doing, err)
}

// add tries the letter as it is, and without its JSON if that is refused.
func (d *DeadLetters) add(ctx context.Context, tx pgx.Tx, letter *message.DeadLetter) error {
	attempt, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	err = d.insert(ctx, attempt, letter)
	if err == nil {
		return attempt.Commit(ctx)
	}
	if !isDataError(err) {
		return err
	}
	if err := attempt.Rollback(ctx); err != nil {
		return err
	}
	whole := *letter
	if whole.Body == nil {
		whole.Body = letter.Message.Payload
	}
	whole.Message.Payload, whole.Message.Headers = nil, nil
	return d.insert(ctx, tx, &whole)
}

func (d *DeadLetters) insert(ctx context.Context, tx pgx.Tx, letter *message.DeadLetter) error {
	headers, err := transportHeaders(letter.TransportHeaders)
	if err != nil {
		return err
	}
	m := &letter.Message
	var published *time.Time
	if !m.Time.IsZero() {
		published = &m.Time
	}
	tag, err := tx.Exec(ctx, fenced(deadLetterAddSQL),
		d.owner.PipelineID, d.catalog.relay.ID, d.owner.Fence,
		identity(letter), storable(m.EventID), m.OutboxID, storable(m.Source), storable(m.Stream),
		storable(m.Key), storable(m.Op), storable(m.EventType), published, storable(m.Destination),
		jsonText(m.Payload), jsonText(m.Headers), letter.Body, headers, storable(letter.Coordinates),
		storable(letter.Error), letter.Attempts, letter.HoldsKey)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return superseded("add dead letters")
	}
	return nil
}

// identity is what the same failure is recognised by: the event id, else the
// transport's coordinates, else the body.
func identity(letter *message.DeadLetter) string {
	switch {
	case letter.Message.EventID != "":
		return "event:" + shortened(storable(letter.Message.EventID))
	case letter.Coordinates != "":
		return "coordinates:" + shortened(storable(letter.Coordinates))
	}
	sum := sha256.Sum256(letter.Body)
	return "body:" + hex.EncodeToString(sum[:])
}

func shortened(text string) string {
	if len(text) <= longestIdentity {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func jsonText(text []byte) *string {
	if len(text) == 0 {
		return nil
	}
	s := string(text)
	return &s
}

// transportHeaders keeps order and repeats: an array of pairs.
func transportHeaders(headers []message.Header) (*string, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	pairs := make([][2]string, len(headers))
	for i, h := range headers {
		pairs[i] = [2]string{storable(h.Name), storable(h.Value)}
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		return nil, fmt.Errorf("encode transport headers: %w", err)
	}
	s := string(text)
	return &s, nil
}

// Due returns letters that somebody asked to retry, oldest first; in order, so
// that none overtakes one of its key that still waits, and with those that were
// parked behind letters that wait no more.
func (d *DeadLetters) Due(ctx context.Context, limit int, inOrder bool) ([]message.DeadLetter, error) {
	const doing = "read dead letters to retry"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := d.catalog.pool.Query(ctx, deadLetterDueSQL, d.owner.PipelineID, limit, inOrder)
	if err != nil {
		return nil, d.catalog.explain(doing, err)
	}
	letters, err := pgx.CollectRows(rows, scanDeadLetter)
	if err != nil {
		return nil, d.catalog.explain(doing, err)
	}
	if len(letters) > 0 {
		fault.At(fault.LettersAfterDue)
	}
	return letters, nil
}

func scanDeadLetter(row pgx.CollectableRow) (l message.DeadLetter, err error) {
	m := &l.Message
	var published *time.Time
	var payload, headers, transport *string
	err = row.Scan(&l.ID, &m.EventID, &m.OutboxID, &m.Source, &m.Stream, &m.Key, &m.Op, &m.EventType, &published,
		&m.Destination, &payload, &headers, &l.Body, &transport, &l.Coordinates, &l.Error, &l.Attempts, &l.HoldsKey)
	if err != nil {
		return l, err
	}
	if published != nil {
		m.Time = published.UTC()
	}
	if payload != nil {
		m.Payload = []byte(*payload)
	}
	if headers != nil {
		m.Headers = []byte(*headers)
	}
	if transport != nil {
		var pairs [][2]string
		if err := json.Unmarshal([]byte(*transport), &pairs); err != nil {
			return l, fmt.Errorf("decode transport headers: %w", err)
		}
		for _, p := range pairs {
			l.TransportHeaders = append(l.TransportHeaders, message.Header{Name: p[0], Value: p[1]})
		}
	}
	return l, nil
}

// Settle removes a letter that was delivered (failure nil), or puts it back
// with the new error.
func (d *DeadLetters) Settle(ctx context.Context, id int64, failure error) error {
	const doing = "settle a dead letter"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	fault.At(fault.LettersBeforeSettle)
	sql := deadLetterRemoveSQL
	args := []any{d.owner.PipelineID, d.catalog.relay.ID, d.owner.Fence, id}
	if failure != nil {
		sql = deadLetterReturnSQL
		args = append(args, storable(failure.Error()))
	}
	var owners int
	if err := d.catalog.pool.QueryRow(ctx, fenced(sql), args...).Scan(&owners); err != nil {
		return d.catalog.explain(doing, err)
	}
	fault.At(fault.LettersAfterSettle)
	if owners == 0 {
		return superseded(doing)
	}
	return nil
}

// Count returns how many letters the pipeline has.
func (d *DeadLetters) Count(ctx context.Context) (count int, err error) {
	const doing = "count the dead letters"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if err := d.catalog.pool.QueryRow(ctx, deadLetterCountSQL, d.owner.PipelineID).Scan(&count); err != nil {
		return 0, d.catalog.explain(doing, err)
	}
	return count, nil
}

// Held returns the keys that letters of the pipeline hold.
func (d *DeadLetters) Held(ctx context.Context) ([]message.HeldKey, error) {
	const doing = "read the keys of dead letters"
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	rows, err := d.catalog.pool.Query(ctx, deadLetterHeldSQL, d.owner.PipelineID)
	if err != nil {
		return nil, d.catalog.explain(doing, err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowToStructByPos[message.HeldKey])
	if err != nil {
		return nil, d.catalog.explain(doing, err)
	}
	return held, nil
}
