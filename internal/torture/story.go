package torture

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/torture/check"
	"github.com/pg-tide/pg-tide/internal/torture/inject"
)

// timeOfDay is how moments are told.
const timeOfDay = "15:04:05.000"

// moment is one thing that happened to an event.
type moment struct {
	at   time.Time
	text string
}

// story tells what happened to an event at every hop, and what was done to
// the bus meanwhile, in the order of time.
func story(f check.Finding, ledger *check.Ledger, hops []check.Hop, applied []*inject.Applied) []string {
	ids := []string{f.ID}
	if f.Behind != nil {
		ids = append(ids, f.Behind.ID)
	}
	var moments []moment
	for _, id := range ids {
		moments = append(moments, momentsOf(id, ledger, hops)...)
	}
	if len(moments) == 0 {
		return []string{f.String()}
	}
	byTime := func(a, b moment) int { return a.at.Compare(b.at) }
	from, to := slices.MinFunc(moments, byTime).at, slices.MaxFunc(moments, byTime).at
	for _, a := range applied {
		if a.Began.IsZero() || a.Began.After(to.Add(inject.Recovery)) || a.Ended.Add(inject.Recovery).Before(from) {
			continue
		}
		moments = append(moments, moment{a.Began, fmt.Sprintf("%s of %s begins", a.Kind, a.Target)})
		moments = append(moments, moment{a.Ended, fmt.Sprintf("%s of %s ends", a.Kind, a.Target)})
	}
	slices.SortStableFunc(moments, byTime)
	lines := []string{f.String()}
	for _, m := range moments {
		lines = append(lines, m.at.Format(timeOfDay)+" "+m.text)
	}
	return lines
}

func momentsOf(id string, ledger *check.Ledger, hops []check.Hop) []moment {
	var moments []moment
	name := id
	if e := ledger.Event(id); e == nil {
		name += " (in no ledger)"
	} else {
		name = fmt.Sprintf("%s (%s number %d)", id, e.Line, e.Seq)
		moments = append(moments, moment{e.Published, fmt.Sprintf("%s published in xid %s, a transaction of the kind %s", name, e.XID, e.How)})
		if !e.Committed.IsZero() {
			moments = append(moments, moment{e.Committed, name + " known to be committed"})
		}
	}
	for _, hop := range hops {
		for _, a := range hop.Arrivals {
			if a.ID == id {
				moments = append(moments, moment{a.At, strings.TrimSpace(fmt.Sprintf("%s at %s, place %d %s", name, hop.Name, a.Place, a.Note))})
			}
		}
	}
	return moments
}

// writeHops keeps the ledger and all hops as CSV files.
func writeHops(dir string, ledger *check.Ledger, hops []check.Hop) error {
	rows := [][]string{{"event_id", "outbox", "line", "seq", "type", "transaction", "xid", "how", "published", "committed"}}
	for _, e := range ledger.Events {
		rows = append(rows, []string{e.ID, e.Outbox, e.Line, strconv.FormatInt(e.Seq, 10), e.Type,
			strconv.FormatInt(e.Transaction, 10), e.XID, e.How, e.Published.Format(time.RFC3339Nano), e.Committed.Format(time.RFC3339Nano)})
	}
	if err := writeCSV(filepath.Join(dir, "ledger.csv"), rows); err != nil {
		return err
	}
	for _, hop := range hops {
		rows := [][]string{{"event_id", "place", "at", "note"}}
		for _, a := range hop.Arrivals {
			rows = append(rows, []string{a.ID, strconv.FormatInt(a.Place, 10), a.At.Format(time.RFC3339Nano), a.Note})
		}
		if err := writeCSV(filepath.Join(dir, strings.ReplaceAll(hop.Name, " ", "-")+".csv"), rows); err != nil {
			return err
		}
	}
	return nil
}

func writeCSV(path string, rows [][]string) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("keep %s: %w", filepath.Base(path), err)
	}
	writer := csv.NewWriter(file)
	err = writer.WriteAll(rows)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", filepath.Base(path), err)
	}
	return nil
}
