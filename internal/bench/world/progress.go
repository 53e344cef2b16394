package world

import (
	"fmt"
	"io"
	"time"
)

// eraseLine returns to the line's begin and clears it.
const eraseLine = "\r\x1b[K"

// Progress says what is going on: on a terminal in one line that is drawn
// again, else in a line for each step.
type Progress struct {
	out   io.Writer
	live  bool
	begun time.Time
}

// Say adds a line that stays.
func (p *Progress) Say(text string) {
	if p.live {
		fmt.Fprint(p.out, eraseLine)
	}
	fmt.Fprintf(p.out, "%6.1fs %s\n", time.Since(p.begun).Seconds(), text)
}

// Show replaces the moving line.
func (p *Progress) Show(text string) {
	if p.live {
		fmt.Fprintf(p.out, "%s%6.1fs %s", eraseLine, time.Since(p.begun).Seconds(), text)
		return
	}
	p.Say("  " + text)
}

// Done ends the moving line.
func (p *Progress) Done() {
	if p.live {
		fmt.Fprint(p.out, eraseLine)
	}
}
