package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
)

// secretShown stands in errors for a value that must not be shown.
const secretShown = "(secret)"

// Decode checks a JSON object against the declared fields. It finds all
// problems at once and returns them as *Error.
func Decode(fields []Field, raw []byte, resolver Resolver) (Values, []Notice, error) {
	tree, twice, err := parse(raw)
	if err != nil {
		return Values{}, nil, fmt.Errorf("the configuration is not a JSON object: %w", err)
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return Values{}, nil, errors.New("the configuration is not a JSON object")
	}
	d := &decoding{resolver: resolver}
	for _, path := range twice {
		d.fail(path, nil, "is given twice", "keep one of them")
	}
	values := d.object("", fields, object)
	if len(d.problems) > 0 {
		return Values{}, d.notices, &Error{Problems: d.problems}
	}
	return values, d.notices, nil
}

type decoding struct {
	resolver Resolver
	problems []Problem
	notices  []Notice
}

func (d *decoding) fail(path string, value any, rule, hint string) {
	shown := ""
	if value != nil {
		shown = show(value)
	}
	d.problems = append(d.problems, Problem{Path: path, Value: shown, Rule: rule, Hint: hint})
}

func (d *decoding) object(prefix string, fields []Field, object map[string]any) Values {
	result := Values{values: map[string]any{}, given: map[string]bool{}}
	byName := map[string]*Field{}
	for i := range fields {
		field := &fields[i]
		byName[field.Name] = field
		for _, alias := range field.Aliases {
			byName[alias] = field
		}
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		d.key(prefix, key, byName, object[key], &result)
	}
	for i := range fields {
		d.absent(prefix, &fields[i], &result)
	}
	return result
}

func (d *decoding) key(prefix, key string, byName map[string]*Field, value any, result *Values) {
	field := byName[key]
	if field == nil {
		hint := "see docs/configuration.md for the keys"
		if near := Nearest(key, slices.Sorted(maps.Keys(byName))); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		d.fail(prefix+key, nil, "is not known", hint)
		return
	}
	if key != field.Name {
		d.notices = append(d.notices, Notice{Alias: prefix + key, Name: prefix + field.Name})
	}
	if result.given[field.Name] {
		d.fail(prefix+key, nil, fmt.Sprintf("is another name for %q, which is given too", field.Name), "keep one of them")
		return
	}
	result.given[field.Name] = true
	if decoded, ok := d.value(prefix+key, field, value); ok {
		result.values[field.Name] = decoded
	}
}

// absent fills in the default, or complains about a required key.
func (d *decoding) absent(prefix string, field *Field, result *Values) {
	if result.given[field.Name] {
		return
	}
	if field.Required {
		d.fail(prefix+field.Name, nil, "is missing", field.Help)
		return
	}
	if field.Default != nil {
		result.values[field.Name] = field.Default
		return
	}
	if field.Kind == Object && len(field.Fields) > 0 && !requires(field.Fields) {
		result.values[field.Name] = d.object(prefix+field.Name+".", field.Fields, nil)
	}
}

func requires(fields []Field) bool {
	return slices.ContainsFunc(fields, func(f Field) bool { return f.Required })
}

func (d *decoding) value(path string, field *Field, value any) (any, bool) {
	switch field.Kind {
	case String:
		return d.text(path, field, value)
	case Integer, Number:
		return d.number(path, field, value)
	case Boolean:
		if b, ok := value.(bool); ok {
			return b, true
		}
	case Object:
		if object, ok := value.(map[string]any); ok {
			return d.object(path+".", field.Fields, object), true
		}
	case Array:
		if list, ok := value.([]any); ok {
			return d.list(path, field, list)
		}
	}
	d.fail(path, shownAs(field, value), fmt.Sprintf("must be %s", withArticle(field.Kind)), nullHint(value))
	return nil, false
}

func nullHint(value any) string {
	if value == nil {
		return "null is no value: leave the key out"
	}
	return ""
}

func (d *decoding) list(path string, field *Field, list []any) (any, bool) {
	result := make([]Values, 0, len(list))
	for i, item := range list {
		place := fmt.Sprintf("%s[%d]", path, i)
		object, ok := item.(map[string]any)
		if !ok {
			d.fail(place, item, "must be an object", "")
			return nil, false
		}
		result = append(result, d.object(place+".", field.Fields, object))
	}
	return result, true
}

func (d *decoding) text(path string, field *Field, value any) (any, bool) {
	text, ok := value.(string)
	if !ok {
		d.fail(path, shownAs(field, value), "must be a string", nullHint(value))
		return nil, false
	}
	resolved, referred, problem := d.resolver.resolve(path, text)
	if problem != nil {
		d.problems = append(d.problems, *problem)
		return nil, false
	}
	if referred && field.Shown {
		d.fail(path, nil, "may not hold a reference", "it appears in errors and in the status, where no secret may be")
		return nil, false
	}
	if len(field.Values) > 0 && !slices.Contains(field.Values, resolved) {
		hint := ""
		if near := Nearest(resolved, field.Values); near != "" && !referred {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		shown := shownAs(field, value)
		d.fail(path, shown, "must be one of "+strings.Join(field.Values, ", "), hint)
		return nil, false
	}
	return resolved, true
}

func (d *decoding) number(path string, field *Field, value any) (any, bool) {
	n, ok := value.(json.Number)
	if !ok {
		d.fail(path, shownAs(field, value), "must be "+withArticle(field.Kind), nullHint(value))
		return nil, false
	}
	f, err := n.Float64()
	if err != nil || field.Kind == Integer && (f != math.Trunc(f) || math.Abs(f) > maxInteger) {
		d.fail(path, value, "must be "+withArticle(field.Kind), "")
		return nil, false
	}
	if (field.Min != 0 || field.Max != 0) && (f < field.Min || f > field.Max) {
		d.fail(path, value, fmt.Sprintf("must be from %s to %s", plain(field.Min), plain(field.Max)), "")
		return nil, false
	}
	if field.Kind == Integer {
		return int64(f), true
	}
	return f, true
}

// maxInteger is the greatest whole number that a float64 holds exactly, far
// beyond what any setting means.
const maxInteger = 1 << 53

// plain writes a bound without an exponent.
func plain(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.6f", f), ".000000") }

func withArticle(kind Kind) string {
	if strings.ContainsRune("aeiou", rune(kind[0])) {
		return "an " + string(kind)
	}
	return "a " + string(kind)
}

// shownAs returns the value as it may be shown.
func shownAs(field *Field, value any) any {
	if field.Secret {
		return secret{}
	}
	return value
}

type secret struct{}

func show(value any) string {
	switch value.(type) {
	case secret:
		return secretShown
	case map[string]any, []any: // may hold anything
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		return secretShown
	}
	shown := credentials.ReplaceAllString(string(text), "://"+secretShown+"@")
	if runes := []rune(shown); len(runes) > longestShown {
		return string(runes[:longestShown]) + "…"
	}
	return shown
}

// longestShown bounds what an error quotes of a value, in characters.
const longestShown = 80

// credentials matches what precedes the host of a URL, up to the last @ so
// that a password which itself holds one is covered.
var credentials = regexp.MustCompile(`://\S*@`)

// rootCause drops the path from a file error: the sentence names it already.
func rootCause(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
