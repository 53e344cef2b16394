package relay

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/retry"
)

// reportPause gathers changes of state that come together into one report.
const reportPause = 100 * time.Millisecond

// reportChanges stores reports that differ from what was last stored: soon
// after a change of state, and after each heartbeat.
func (s *Supervisor) reportChanges(intake, work context.Context) {
	stored := map[int64]pipeline.Report{}
	for {
		select {
		case <-s.dirty:
		case <-intake.Done():
			return
		}
		_ = retry.Sleep(intake, s.clock, reportPause)
		s.flush(work, stored)
	}
}

// flush stores what changed. What could not be stored is tried again with the
// next heartbeat.
func (s *Supervisor) flush(ctx context.Context, stored map[int64]pipeline.Report) {
	var changed []pipeline.Report
	known := map[int64]bool{}
	for _, p := range s.Pipelines() {
		known[p.Spec.ID] = true
		if stored[p.Spec.ID] != p.Report {
			changed = append(changed, p.Report)
		}
	}
	for id := range stored {
		if !known[id] {
			delete(stored, id)
		}
	}
	if len(changed) == 0 {
		return
	}
	err := call(ctx, s.options.CloseTimeout, database, "report", func(ctx context.Context) error {
		return s.registry.Report(ctx, changed)
	})
	if err != nil {
		s.logger.Debug("report failed", "error", err)
		return
	}
	for _, r := range changed {
		stored[r.PipelineID] = r
	}
}

// Pipeline is what the supervisor shows of one that it runs.
type Pipeline struct {
	Spec   pipeline.Spec
	Report pipeline.Report
}

// Pipelines returns what runs here, by name, from memory.
func (s *Supervisor) Pipelines() []Pipeline {
	s.mu.Lock()
	runners := make([]*runner, 0, len(s.fleet))
	for _, m := range s.fleet {
		runners = append(runners, m.runner)
	}
	s.mu.Unlock()
	all := make([]Pipeline, 0, len(runners))
	for _, r := range runners {
		all = append(all, Pipeline{Spec: r.spec, Report: r.health.now()})
	}
	slices.SortFunc(all, func(a, b Pipeline) int { return cmp.Compare(a.Spec.Name, b.Spec.Name) })
	return all
}
