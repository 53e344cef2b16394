package bench

import (
	"fmt"
	"io"
	"time"
)

// eraseLine returns to the line's begin and clears it.
const eraseLine = "\r\x1b[K"

// progress says what is going on: on a terminal in one line that is drawn
// again, else in a line for each step.
type progress struct {
	out   io.Writer
	live  bool
	begun time.Time
}

// say adds a line that stays.
func (p *progress) say(text string) {
	if p.live {
		fmt.Fprint(p.out, eraseLine)
	}
	fmt.Fprintf(p.out, "%6.1fs %s\n", time.Since(p.begun).Seconds(), text)
}

// show replaces the moving line.
func (p *progress) show(text string) {
	if p.live {
		fmt.Fprintf(p.out, "%s%6.1fs %s", eraseLine, time.Since(p.begun).Seconds(), text)
		return
	}
	p.say("  " + text)
}

// done ends the moving line.
func (p *progress) done() {
	if p.live {
		fmt.Fprint(p.out, eraseLine)
	}
}
