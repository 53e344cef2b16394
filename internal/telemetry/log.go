// Package telemetry sets up logging and lists every metric once. It refuses
// to keep anything global: loggers and registries are passed on.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// NewLogger makes the logger of a process. It says the same line once a second
// at most; what it holds back for that is said by flush, which comes last.
// format is text or json; level is debug, info, warn or error.
func NewLogger(w io.Writer, format, level string) (logger *slog.Logger, flush func(), err error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil || strings.ContainsAny(level, "+-") {
		return nil, nil, fmt.Errorf("the log level is %q: it must be debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: least}
	var handler slog.Handler
	switch format {
	case "json":
		handler = slog.NewJSONHandler(w, options)
	case "text":
		handler = slog.NewTextHandler(w, options)
	default:
		return nil, nil, fmt.Errorf("the log format is %q: it must be text or json", format)
	}
	handler, flush = limit(handler)
	return slog.New(handler), flush, nil
}
