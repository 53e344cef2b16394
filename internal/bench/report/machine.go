package report

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what was measured on.
type Machine struct {
	System     string `json:"system"`
	Processor  string `json:"processor,omitempty"`
	Processors int    `json:"processors"`
	// Memory is in bytes, Load the average of the last minute at the start;
	// both are 0 where the system does not tell.
	Memory     int64   `json:"memory_bytes,omitempty"`
	Load       float64 `json:"load"`
	PostgreSQL string  `json:"postgresql"`
	NATS       string  `json:"nats,omitempty"`
	Kafka      string  `json:"kafka,omitempty"`
	Go         string  `json:"go"`
}

// ThisMachine reads what Linux tells; elsewhere less is known.
func ThisMachine() Machine {
	m := Machine{System: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(), Go: runtime.Version()}
	m.Processor = afterColon("/proc/cpuinfo", "model name")
	if kilobytes, _, found := strings.Cut(afterColon("/proc/meminfo", "MemTotal"), " "); found {
		if n, err := strconv.ParseInt(kilobytes, 10, 64); err == nil {
			m.Memory = n << 10
		}
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		if load, err := strconv.ParseFloat(first, 64); err == nil {
			m.Load = load
		}
	}
	return m
}

// afterColon is the value of the first line "name : value" of a file, or nothing.
func afterColon(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
