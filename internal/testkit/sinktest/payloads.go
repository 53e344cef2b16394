package sinktest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/transform"
)

const mebibyte = 1 << 20

// Texts are bodies that travel unchanged everywhere: JSON.
func Texts() [][]byte {
	var bodies [][]byte
	for _, text := range []string{`{}`, `null`, `0.10000000000000000000001`, `"Größe 漢字 🌊   é"`, `{"a":"\"quoted\" \\ / \t"}`,
		`{"deep":[[[[{"x":[1,2,{"y":null}]}]]]]}`, `"` + strings.Repeat("long ", 2000) + `"`} {
		bodies = append(bodies, []byte(text))
	}
	return bodies
}

// Binaries are bodies that are no text.
func Binaries() [][]byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return [][]byte{{0, 1, 0xff, '\r', '\n'}, all}
}

func keepsText(t testing.TB, f Features, h Harness) { keepsBodies(t, f, h, Texts()...) }

func keepsEmpty(t testing.TB, f Features, h Harness) { keepsBodies(t, f, h, []byte{}) }

func keepsBinary(t testing.TB, f Features, h Harness) { keepsBodies(t, f, h, Binaries()...) }

func keepsLarge(t testing.TB, f Features, h Harness) {
	keepsBodies(t, f, h, []byte(`"`+strings.Repeat("x", mebibyte-2)+`"`))
}

func keepsBodies(t testing.TB, f Features, h Harness, bodies ...[]byte) {
	t.Helper()
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	batch := Envelopes(h.Destination, 1, len(bodies))
	for i := range batch {
		batch[i].Body = bodies[i]
	}
	mustSend(ctx, t, sink, batch)
	stored := h.Stored(t)
	if len(stored) != len(batch) {
		t.Fatalf("%d events arrived, want %d", len(stored), len(batch))
	}
	same(t, f, stored, batch)
}

// OddHeaders are values that travel unchanged. Blanks at the ends and line
// breaks do not: the wire formats encode them.
func OddHeaders() []message.Header {
	return []message.Header{
		{Name: "ce-id", Value: "1"},
		{Name: "ce-type", Value: "order.created"},
		{Name: "Empty", Value: ""},
		{Name: "UPPER-and-lower", Value: "UPPER and lower"},
		{Name: "colon", Value: "a: b, c; d=\"e\""},
		{Name: "percent", Value: "%0A%20%C3%A4"},
		{Name: "unicode", Value: "Größe 漢字 🌊"},
		{Name: "long", Value: strings.Repeat("0123456789", 200)},
		{Name: "x_under.dot~", Value: "\x01"},
	}
}

func keepsHeaders(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	batch := Envelopes(h.Destination, 1, 3)
	odd := f.headers()
	batch[1].Headers = odd
	mustSend(ctx, t, sink, batch)
	stored := h.Stored(t)
	same(t, f, stored, batch)
	for i := range stored {
		if !bytes.Equal(stored[i].Body, batch[1].Body) {
			continue
		}
		for _, header := range odd {
			if got := stored[i].Header(header.Name); got != header.Value {
				t.Errorf("header %s: sent %q, stored %q", header.Name, header.Value, got)
			}
		}
	}
}

// headers are those that the technology is to keep.
func (f *Features) headers() []message.Header {
	if len(f.HeadersKept) > 0 {
		return f.HeadersKept
	}
	return OddHeaders()
}

// hostile are values that must not lead an event out of the operator's prefix.
func hostile() []string {
	return []string{"*", ">", "", " ", "a b", "..", "a.b", ".", "../../other", "/", "a/b", "%2e%2e%2f", "?a=b#c", "#", "+", "\r\nX: y", "\x00",
		"$JS.API", "größe", "a\tb", "\xff\xfe", "\u2028", "{op}", strings.Repeat("x", 100)}
}

func staysInPrefix(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	technology := conformance.Technology(t, f.Technology)
	batch := hostileBatch(t, &f, h.Template, &technology)
	if h.Prepare != nil {
		made := map[string]bool{}
		for i := range batch {
			if to := batch[i].Destination; !made[to] {
				made[to] = true
				h.Prepare(t, to)
			}
		}
	}
	sink := opened(ctx, t, h)
	mustSend(ctx, t, sink, batch)
	where := map[string]string{}
	for _, e := range h.Stored(t) {
		where[string(e.Body)] = e.Destination
	}
	for i := range batch {
		if got := where[string(batch[i].Body)]; got != batch[i].Destination {
			t.Errorf("sent to %q, stored at %q", batch[i].Destination, got)
		}
	}
}

// hostileBatch fills hostile values into the template and fails t when one
// leads out of the prefix.
func hostileBatch(t testing.TB, f *Features, text string, technology *builtin.Technology) []message.Envelope {
	t.Helper()
	template, err := transform.CompileTemplate(text, technology.Safe)
	if err != nil {
		t.Fatalf("compile the harness's template: %v", err)
	}
	prefix, behind, found := strings.Cut(text, "{op}")
	if !found || behind != "" || prefix == "" {
		t.Fatalf("the harness's template %q is no prefix with {op} at its end", text)
	}
	// What parts one step from the next stands before the placeholder.
	separator := prefix[len(prefix)-1:]
	var batch []message.Envelope
	for i, op := range hostile() {
		e := Envelopes("", i+1, 1)[0]
		to, err := template.Expand(&message.Message{Op: op, EventID: e.EventID})
		if err != nil {
			t.Fatalf("op %q: %v", op, err)
		}
		if f.LongestDestination > 0 && len(to) > f.LongestDestination {
			if technology.Destination(to) == nil {
				t.Errorf("op %q leads to %q, whose length nobody minds", op, to)
			}
			continue
		}
		if err := technology.Destination(to); err != nil {
			t.Errorf("op %q leads to %q: %v", op, to, err)
		}
		rest, inside := strings.CutPrefix(to, prefix)
		if !inside || rest == "" || rest == "." || rest == ".." || strings.Contains(rest, separator) {
			t.Errorf("op %q leads to %q, out of the prefix %q", op, to, prefix)
		}
		e.Destination = to
		batch = append(batch, e)
	}
	return batch
}
