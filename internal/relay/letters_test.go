package relay

import (
	"testing"
	"testing/synctest"
	"time"
)

// Without letters the database is asked for them once, by each session: a
// relay of many idle pipelines must cost it next to nothing.
func TestLettersAreNotLookedForWhereThereAreNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlow(events(1))
		b := &fleet{flows: map[string]*flow{"a": f}}
		registry := newRegistry()
		_, stop := start(t, registry, b.build, Options{})
		defer stop()
		registry.own(spec(1, "a"))
		looks := func() int {
			f.letters.mu.Lock()
			defer f.letters.mu.Unlock()
			return f.letters.looks
		}
		await(t, "the first look", func() bool { return looks() > 0 })
		time.Sleep(time.Second)
		synctest.Wait()
		before := looks()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := looks() - before; n > 0 {
			t.Errorf("looked %d times more where there is nothing", n)
		}

		// Somebody puts letters there and no notification comes, as behind a pooler.
		lettered := spec(1, "a")
		lettered.Letters = true
		registry.own(lettered)
		await(t, "a look after the change", func() bool { return looks() > before })
		time.Sleep(time.Second)
		before = looks()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := looks() - before; n < 5 || n > 7 {
			t.Errorf("looked %d times in a minute, want every ten seconds", n)
		}

		// When they are gone there is one more look, which lets go of their keys.
		registry.own(spec(1, "a"))
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		before = looks()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := looks() - before; n != 0 {
			t.Errorf("looked %d times after they were gone", n)
		}
	})
}
