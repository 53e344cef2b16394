package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/pg-tide/pg-tide/internal/builtin"
	"github.com/pg-tide/pg-tide/internal/config"
)

const keysHead = `-- Generated from the declared configuration fields; do not edit.
--
-- The keys that a pipeline's configuration may have: nested keys by their
-- path, "common" for those of every technology, a null direction for both.
create or replace function tide.config_keys()
returns table (
    technology text,
    direction  text,
    key        text,
    kind       text,
    alias_of   text,
    choices    text[],
    required   boolean
)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    values
`

const keysFoot = `
$$;

comment on function tide.config_keys() is 'The keys that a pipeline''s configuration may have.';
`

// key is one row of tide.config_keys.
type key struct {
	technology, direction, name, kind, aliasOf string
	choices                                    []string
	required                                   bool
}

func keysSQL(technologies []builtin.Technology) string {
	sinks, sources := namesOf(technologies)
	var keys []key
	keys = collect(keys, "common", "forward", "", builtin.CommonFields(true, sinks))
	keys = collect(keys, "common", "reverse", "", builtin.CommonFields(false, sources))
	for i := range technologies {
		t := &technologies[i]
		if t.SinkFields != nil {
			keys = collect(keys, t.Name, "forward", "", t.SinkFields())
		}
		if t.SourceFields != nil {
			keys = collect(keys, t.Name, "reverse", "", t.SourceFields())
		}
	}
	rows := make([]string, len(keys))
	for i := range keys {
		rows[i] = "    " + keys[i].row(i == 0)
	}
	return keysHead + strings.Join(rows, ",\n") + keysFoot
}

// namesOf returns the technologies that are sinks, and those that are sources.
func namesOf(technologies []builtin.Technology) (sinks, sources []string) {
	for i := range technologies {
		if technologies[i].Sink != nil {
			sinks = append(sinks, technologies[i].Name)
		}
		if technologies[i].Source != nil {
			sources = append(sources, technologies[i].Name)
		}
	}
	return sinks, sources
}

// collect adds the fields, and their aliases. What stands within an array is
// left to the relay, which knows paths with numbers.
func collect(keys []key, technology, direction, prefix string, fields []config.Field) []key {
	for i := range fields {
		f := &fields[i]
		one := key{technology: technology, direction: direction, name: prefix + f.Name, kind: string(f.Kind),
			choices: f.Values, required: f.Required && prefix == ""}
		keys = append(keys, one)
		aliases := append([]string(nil), f.Aliases...)
		sort.Strings(aliases)
		for _, alias := range aliases {
			other := one
			other.name, other.aliasOf, other.required = prefix+alias, prefix+f.Name, false
			keys = append(keys, other)
		}
		if f.Kind == config.Object {
			keys = collect(keys, technology, direction, prefix+f.Name+".", f.Fields)
		}
	}
	return keys
}

// row is one line of the values list. The first carries the casts.
func (k *key) row(first bool) string {
	choices := "null"
	if len(k.choices) > 0 {
		choices = quote("{" + strings.Join(k.choices, ",") + "}")
	}
	if first {
		choices += "::text[]"
	}
	alias := "null"
	if k.aliasOf != "" {
		alias = quote(k.aliasOf)
	}
	if first {
		alias += "::text"
	}
	return fmt.Sprintf("(%s, %s, %s, %s, %s, %s, %t)", quote(k.technology), quote(k.direction), quote(k.name), quote(k.kind),
		alias, choices, k.required)
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
