package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	idlePipelines = 20
	// idleFor is how long nothing is done, after idleSettle.
	idleFor    = 30 * time.Second
	idleSettle = 10 * time.Second
)

// measureIdle lets a relay of twenty pipelines do nothing.
func measureIdle(ctx context.Context, w *world) ([]Result, error) {
	s, err := w.service(ctx, "orders")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.exec(ctx, outboxCreateSQL, "orders"), s.exec(ctx, inboxCreateSQL, "arrived")); err != nil {
		return nil, err
	}
	if _, err := w.newStream(ctx); err != nil {
		return nil, err
	}
	for i := range idlePipelines / 2 {
		if err := s.forward(ctx, fmt.Sprintf("out%d", i), "orders", w.stream("events"), w.subject("events")); err != nil {
			return nil, err
		}
		if err := s.reverse(ctx, fmt.Sprintf("in%d", i), "arrived", w.stream("events"), w.subject("events")); err != nil {
			return nil, err
		}
	}
	if err := s.startRelay(ctx); err != nil {
		return nil, err
	}
	w.progress.show(fmt.Sprintf("idle: settling for %s, then nothing for %s", idleSettle, idleFor))
	if err := sleep(ctx, idleSettle); err != nil {
		return nil, err
	}
	before, err := w.idleSample(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, idleFor); err != nil {
		return nil, err
	}
	after, err := w.idleSample(ctx, s)
	if err != nil {
		return nil, err
	}
	seconds := after.at.Sub(before.at).Seconds()
	of := fmt.Sprintf("%d pipelines, no events", idlePipelines)
	one := func(unit, name string, value, limit float64) Result {
		return Result{Case: "idle", Of: of, Unit: unit, Less: true, Contenders: []Contender{{Name: name, Values: []float64{value}, Limit: limit}}}
	}
	results := []Result{one("transactions/s", "of all on PostgreSQL", float64(after.transactions-before.transactions-1)/seconds, 3)}
	if after.memory > 0 {
		results = append(results,
			one("% of a core", "the relay", 100*(after.processor-before.processor).Seconds()/seconds, 1),
			one("MiB", "resident", float64(after.memory)/(1<<20), 60))
	}
	return results, errors.Join(w.drop(ctx, s), w.removeStream(ctx, "events"))
}

// idleState is what a relay has used until now.
type idleState struct {
	at           time.Time
	transactions int64
	processor    time.Duration
	memory       int64 // resident bytes; 0 where the system does not tell
}

func (w *world) idleSample(ctx context.Context, s *service) (state idleState, err error) {
	if err := s.alive(); err != nil {
		return state, err
	}
	state.at = time.Now()
	if err := w.admin.QueryRow(ctx, transactionsSQL, s.database).Scan(&state.transactions); err != nil {
		return state, fmt.Errorf("count transactions: %w", err)
	}
	state.processor, state.memory = used(s.relay.PID())
	return state, nil
}

// used is the processor time and the resident memory of a process, as Linux
// tells; nothing elsewhere.
func used(pid int) (time.Duration, int64) {
	const tick = 10 * time.Millisecond
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var numbers [3]int64 // utime, stime, resident pages
	for i, place := range []int{11, 12, 21} {
		if numbers[i], err = strconv.ParseInt(fields[place], 10, 64); err != nil {
			return 0, 0
		}
	}
	return time.Duration(numbers[0]+numbers[1]) * tick, numbers[2] * int64(os.Getpagesize())
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
