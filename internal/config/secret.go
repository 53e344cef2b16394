package config

import (
	"fmt"
	"os"
	"regexp"
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

// reference matches what stands for a secret.
var reference = regexp.MustCompile(`\$\{([^}:]*):([^}]*)\}`)

// resolve replaces the references in text. It tells whether there were any,
// and its problem never holds what a reference stands for.
func (r Resolver) resolve(path, text string) (resolved string, referred bool, problem *Problem) {
	resolved = reference.ReplaceAllStringFunc(text, func(found string) string {
		referred = true
		parts := reference.FindStringSubmatch(found)
		value, rule, hint := r.fetch(parts[1], parts[2])
		if rule != "" && problem == nil {
			problem = &Problem{Path: path, Rule: rule, Hint: hint}
		}
		return value
	})
	return resolved, referred, problem
}

func (r Resolver) fetch(kind, name string) (value, rule, hint string) {
	switch kind {
	case "env":
		value, ok := r.LookupEnv(name)
		if !ok {
			return "", fmt.Sprintf("refers to the environment variable %s, which the relay does not have", name),
				"set it for the relay's process"
		}
		return value, "", ""
	case "file":
		content, err := r.ReadFile(name)
		if err != nil {
			return "", fmt.Sprintf("refers to the file %s, which the relay cannot read: %v", name, rootCause(err)),
				"the relay's user must be able to read it"
		}
		// Secret files nearly always end in a newline that is not part of the secret.
		return strings.TrimRight(string(content), "\r\n"), "", ""
	}
	return "", fmt.Sprintf("has a reference of the unknown kind %q", kind), "write ${env:NAME} or ${file:PATH}"
}
