package demo

import (
	"fmt"
	"strings"
	"time"
)

// The bars of the queue, from nothing to most.
const bars = " ▁▂▃▄▅▆▇█"

// paint colours a text, or leaves it.
type paint func(colour, text string) string

// The colours used, as terminals number them.
const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func plainPaint(_, text string) string { return text }

func ansiPaint(colour, text string) string { return "\x1b[" + colour + "m" + text + "\x1b[0m" }

// picture draws a sample as lines of at most width characters.
func picture(s sample, width int, p paint) []string {
	var lines []string
	add := func(colour, format string, arguments ...any) {
		text := cut(fmt.Sprintf(format, arguments...), width)
		if colour != "" {
			text = p(colour, text)
		}
		lines = append(lines, text)
	}
	add(bold, "pg_tide demo  %s  %s of %s", progress(s.elapsed, s.lasts, 24), seconds(s.elapsed), seconds(s.lasts))
	add("", "")
	add(faint, " %-9s %-17s %9s %7s %8s %12s", "service", "outbox", "committed", "/s", "to send", "rolled back")
	for _, o := range s.outboxes {
		add(cyan, " %-9s %-17s %9d %7.0f %8d %12d", o.service, o.outbox, o.committed, o.rate, o.lag, o.rolledBack)
	}
	add(faint, "      ▼ relays")
	add(yellow, " %-9s %-17s %9d %7.0f", s.bus, s.place, s.broker, s.brokerRate)
	add(faint, "      ▼ relays")
	add(faint, " %-9s %-17s %9s %7s %8s %8s  %s", "service", "inbox", "arrived", "/s", "in "+s.bus, "pending", "behind")
	for _, i := range s.inboxes {
		colour, state := green, brief(i.delay)
		if i.down {
			colour, state = red, "STOPPED"
		}
		add(colour, " %-9s %-17s %9d %7.0f %8d %8d  %s", i.service, i.inbox, i.arrived, i.rate, i.waiting, i.unprocessed, state)
	}
	add("", "")
	add("", " payments queue %s", spark(s.queue, max(10, min(50, width-24))))
	add("", "")
	for _, text := range s.story {
		for _, part := range wrap(text, width-1) {
			add("", " %s", part)
		}
	}
	for _, text := range s.news {
		add(bold, " %s", text)
	}
	return lines
}

// line tells a sample in one line, for logs and pipes.
func line(s sample) string {
	var parts []string
	for _, o := range s.outboxes {
		parts = append(parts, fmt.Sprintf("%s %d committed %.0f/s", o.outbox, o.committed, o.rate))
	}
	parts = append(parts, fmt.Sprintf("%s %d", s.bus, s.broker))
	for _, i := range s.inboxes {
		text := fmt.Sprintf("%s %d arrived, %d waiting, %d pending", i.inbox, i.arrived, i.waiting, i.unprocessed)
		if i.down {
			text += " (stopped)"
		} else if i.delay > 0 {
			text += ", " + brief(i.delay) + " behind"
		}
		parts = append(parts, text)
	}
	return fmt.Sprintf("%6s  %s", seconds(s.elapsed), strings.Join(parts, "  |  "))
}

// cut shortens to width characters. All that is drawn is one column wide.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(0, width)])
}

// wrap breaks a story between its steps.
func wrap(text string, width int) []string {
	var lines []string
	now := ""
	for _, step := range strings.SplitAfter(text, " > ") {
		if now != "" && len([]rune(now))+len([]rune(step)) > width {
			lines = append(lines, strings.TrimRight(now, " "))
			now = "   "
		}
		now += step
	}
	return append(lines, now)
}

// spark draws the newest values as bars, the greatest of them all as the tallest.
func spark(values []int, width int) string {
	values = squeeze(values, width)
	most := 1
	for _, v := range values {
		most = max(most, v)
	}
	runes := []rune(bars)
	var text strings.Builder
	for _, v := range values {
		at := v * (len(runes) - 1) / most
		if v > 0 && at == 0 {
			at = 1
		}
		text.WriteRune(runes[at])
	}
	return fmt.Sprintf("%s %d", text.String(), values[len(values)-1])
}

// squeeze keeps the whole history within width, each point the greatest of
// those that it stands for.
func squeeze(values []int, width int) []int {
	if len(values) == 0 {
		return []int{0}
	}
	if len(values) <= width {
		return values
	}
	squeezed := make([]int, width)
	for i, v := range values {
		at := i * width / len(values)
		squeezed[at] = max(squeezed[at], v)
	}
	squeezed[width-1] = values[len(values)-1]
	return squeezed
}

func progress(elapsed, lasts time.Duration, width int) string {
	full := width
	if lasts > 0 {
		full = int(min(float64(width), float64(width)*float64(elapsed)/float64(lasts)))
	}
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func brief(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return milliseconds(d) + " ms"
}
