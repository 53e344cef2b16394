package world

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"
)

// repeatWindow is the time over which repetitions are counted.
const repeatWindow = 10 * time.Second

var digits = regexp.MustCompile(`[0-9]+`)

// Log takes the output of a relay through all its lives: into a file, and
// line by line through our hands.
type Log struct {
	mu      sync.Mutex
	file    *os.File
	rest    []byte
	address string
	recent  map[string][]time.Time
	worst   Repetition
}

// Repetition is a line that came often.
type Repetition struct {
	Line string `json:"line"`
	// PerSecond is how often, over ten seconds.
	PerSecond float64 `json:"per_second"`
}

// NewLog opens the file.
func NewLog(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	return &Log{file: file, recent: map[string][]time.Time{}}, nil
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			break
		}
		l.take(line)
		l.rest = rest
	}
	return l.file.Write(p)
}

// take looks at one line. What differs only in numbers, as ports do, counts
// as the same.
func (l *Log) take(line []byte) {
	var fields map[string]any
	if json.Unmarshal(line, &fields) != nil {
		return
	}
	delete(fields, "time")
	if address, ok := fields["address"].(string); ok {
		l.address = address
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return
	}
	key := digits.ReplaceAllString(string(text), "#")
	now := time.Now()
	recent := l.recent[key]
	recent = append(recent, now)
	for now.Sub(recent[0]) > repeatWindow {
		recent = recent[1:]
	}
	l.recent[key] = recent
	if rate := float64(len(recent)) / repeatWindow.Seconds(); rate > l.worst.PerSecond {
		l.worst = Repetition{Line: string(text), PerSecond: rate}
	}
}

// Address is where the relay last said that it serves HTTP.
func (l *Log) Address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.address
}

// Worst is the line that repeated most.
func (l *Log) Worst() Repetition {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.worst
}

// begin forgets what belonged to an earlier process.
func (l *Log) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.address, l.rest, l.recent = "", nil, map[string][]time.Time{}
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
