package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// plainEvery is how often a line is written where there is no terminal.
const plainEvery = 2 * time.Second

// screen is where the demo speaks: a picture that is redrawn in place, or
// lines one after the other.
type screen struct {
	out   io.Writer
	size  func() (width, height int) // nil without a terminal
	paint paint

	mu    sync.Mutex
	drawn int // lines of the picture that stand above the cursor
	told  time.Time
}

func newScreen(o Options) *screen {
	s := &screen{out: o.Out, size: o.Size, paint: plainPaint}
	if o.Color && o.Size != nil {
		s.paint = ansiPaint
	}
	return s
}

// say writes a line that stays.
func (s *screen) say(format string, arguments ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn = 0 // the picture above stays as it is
	fmt.Fprintf(s.out, format+"\n", arguments...)
}

// draw shows a sample: in place where the picture fits, else as a line now and then.
func (s *screen) draw(now sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size != nil {
		width, height := s.size()
		lines := picture(now, width-1, s.paint) // a full line would wrap
		if width > 0 && len(lines) < height {
			s.redraw(lines)
			return
		}
	}
	if time.Since(s.told) < plainEvery {
		return
	}
	s.told = time.Now()
	fmt.Fprintln(s.out, line(now))
}

// redraw goes up over the last picture and writes the new one over it, in one
// write so that it does not flicker.
func (s *screen) redraw(lines []string) {
	var text strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", s.drawn)
	}
	for _, one := range lines {
		text.WriteString("\r\x1b[2K" + one + "\n")
	}
	text.WriteString("\x1b[0J")
	s.drawn = len(lines)
	fmt.Fprint(s.out, text.String())
}

// news are the few lines about what happens in the show.
type news struct {
	mu    sync.Mutex
	lines []string
}

func (n *news) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, text)
}

func (n *news) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.lines...)
}
