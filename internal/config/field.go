// Package config turns a pipeline's JSON configuration into checked values:
// fields are declared as data, decoded strictly, defaulted, validated all at
// once and reported with their paths. It does no network.
package config

// Kind is the JSON type of a field.
type Kind string

// The kinds of fields.
const (
	String  Kind = "string"
	Integer Kind = "integer"
	Number  Kind = "number"
	Boolean Kind = "boolean"
	Object  Kind = "object"
	Array   Kind = "array"
)

// Field declares one configuration key: decoding, the check in SQL, the
// reference page and completion all come from it.
type Field struct {
	Name string
	Kind Kind
	// Default is used when the key is absent; nil means none.
	Default  any
	Required bool
	// Secret values are never shown: not in a log, a status or an error.
	Secret bool
	// Shown values appear in errors and statuses, as expressions do; they may
	// therefore hold no reference.
	Shown bool
	// Aliases are accepted in place of Name, with a notice.
	Aliases []string
	// Values are the only ones accepted, for a string that is a choice.
	Values []string
	// Min and Max bound an integer or number; both 0 means unbounded.
	Min, Max float64
	// Fields describe the keys of an object, or of each object of an array;
	// nil leaves the content to the owner.
	Fields []Field
	// Help is one sentence for people, without a full stop.
	Help string
}
