package tide

import "time"

// pace measures how many messages a second the worker gets through, and so how
// many it may have claimed.
type pace struct {
	since time.Time
	count int
	rate  float64
}

const (
	// paceWindow is what one look at the rate goes over.
	paceWindow = 20 * time.Millisecond
	// ahead is how long the worker's claimed messages may take it.
	ahead = 250 * time.Millisecond
)

// done counts messages.
func (p *pace) done(n int, now time.Time) {
	if p.since.IsZero() {
		p.since = now
	}
	p.count += n
	passed := now.Sub(p.since)
	if passed < paceWindow {
		return
	}
	// Half of it is what was known before: a pause of one handler is no trend.
	p.rate = (p.rate + float64(p.count)/passed.Seconds()) / 2
	p.since, p.count = now, 0
}

// most is how many messages may be claimed and not done.
func (p *pace) most(least, most int) int {
	return min(max(least, int(p.rate*ahead.Seconds())), most)
}
