package torture

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	liveEvery  = 500 * time.Millisecond
	plainEvery = 10 * time.Second
	// eraseLine returns to the line's begin and clears it.
	eraseLine = "\r\x1b[K"
)

// screen shows what happens: one line that is drawn again on a terminal, and
// lines that stay.
type screen struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool
	shown time.Time
	last  string
	begun time.Time
}

func newScreen(out io.Writer, live bool) *screen {
	return &screen{out: out, live: live, begun: time.Now()}
}

// every is how often the moving line may change.
func (s *screen) every() time.Duration {
	if s.live {
		return liveEvery
	}
	return plainEvery
}

// say adds a line that stays.
func (s *screen) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		fmt.Fprintf(s.out, "%6.1fs %s\n", time.Since(s.begun).Seconds(), text)
		return
	}
	fmt.Fprintf(s.out, "%s%s\n%s", eraseLine, text, s.last)
}

// show replaces the moving line; where there is none it adds one now and then.
func (s *screen) show(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live {
		s.last = text
		fmt.Fprint(s.out, eraseLine, text)
		return
	}
	if time.Since(s.shown) < plainEvery-time.Second {
		return
	}
	s.shown = time.Now()
	fmt.Fprintf(s.out, "%6.1fs %s\n", time.Since(s.begun).Seconds(), text)
}

// done ends the moving line.
func (s *screen) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live && s.last != "" {
		fmt.Fprint(s.out, eraseLine)
		s.last = ""
	}
}
