package config

import (
	"fmt"
	"os"
	"strings"
)

// Resolver fetches what ${env:NAME} and ${file:PATH} stand for.
type Resolver struct {
	// LookupEnv returns an environment variable; os.LookupEnv in the relay.
	LookupEnv func(name string) (string, bool)
	// ReadFile returns a file's content; os.ReadFile in the relay.
	ReadFile func(path string) ([]byte, error)
}

// SystemResolver resolves from the process's environment and file system.
func SystemResolver() Resolver {
	return Resolver{LookupEnv: os.LookupEnv, ReadFile: os.ReadFile}
}

// resolve replaces the references in text; $${ stands for ${ itself, and what
// was filled in is not looked at again. It tells whether there were any, and
// its problem never holds what a reference stands for.
func (r Resolver) resolve(path, text string) (resolved string, referred bool, problem *Problem) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			b.WriteString(text)
			return b.String(), referred, nil
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(literal + "${")
			text = rest
			continue
		}
		inner, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", true, &Problem{Path: path, Rule: "has a reference without its closing brace", Hint: referenceHint}
		}
		kind, name, _ := strings.Cut(inner, ":")
		value, rule, hint := r.fetch(kind, name)
		if rule != "" {
			return "", true, &Problem{Path: path, Rule: rule, Hint: hint}
		}
		referred = true
		b.WriteString(before + value)
		text = after
	}
}

const referenceHint = "write ${env:NAME} or ${file:PATH}, or $${ for the characters ${ themselves"

func (r Resolver) fetch(kind, name string) (value, rule, hint string) {
	switch {
	case name == "":
		return "", fmt.Sprintf("has the reference ${%s}, which names nothing to look up", kind), referenceHint
	case kind == "env":
		value, ok := r.LookupEnv(name)
		if !ok {
			return "", fmt.Sprintf("refers to the environment variable %s, which the relay does not have", name),
				"set it for the relay's process"
		}
		return value, "", ""
	case kind == "file":
		content, err := r.ReadFile(name)
		if err != nil {
			return "", fmt.Sprintf("refers to the file %s, which the relay cannot read: %v", name, rootCause(err)),
				"the relay's user must be able to read it"
		}
		// Secret files nearly always end in a newline that is not part of the secret.
		return strings.TrimRight(string(content), "\r\n"), "", ""
	}
	return "", fmt.Sprintf("has a reference of the unknown kind %q", kind), referenceHint
}
