package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/pg-tide/pg-tide/internal/config"
)

// fromFile takes the settings that flags and environment left open from a
// YAML file. Keys are the flags' names with underscores; an unknown one is an
// error, as is one that is there twice.
func (p *program) fromFile(cmd *cobra.Command, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return usagef("read the configuration file: %w", err)
	}
	var document map[string]yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return usagef("the configuration file %s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	known := fileKeys()
	for _, name := range sortedKeys(document) {
		node := document[name]
		where := fmt.Sprintf("the configuration file %s, line %d", path, node.Line)
		position := slices.Index(known, name)
		if position < 0 {
			return unknownKey(where, name, known)
		}
		if node.Kind != yaml.ScalarNode {
			return usagef("%s: %s must be a single value", where, name)
		}
		if err := p.setFromFile(cmd, twinOf(name), node.Value); err != nil {
			return usagef("%s: %s is %q: %w", where, name, node.Value, err)
		}
	}
	return nil
}

// setFromFile sets a flag, unless something stronger did, or the command has no such flag.
func (p *program) setFromFile(cmd *cobra.Command, name, value string) error {
	flag := cmd.Flags().Lookup(name)
	if flag == nil || p.settings.from[name] > fromFile {
		return nil
	}
	p.settings.from[name] = fromFile
	return flag.Value.Set(value)
}

func unknownKey(where, name string, known []string) error {
	err := usagef("%s: unknown key %q", where, name)
	if near := config.Nearest(strings.ReplaceAll(name, "-", "_"), known); near != "" {
		return withHint(err, fmt.Sprintf("did you mean %s?", near))
	}
	return withHint(err, "known keys are "+strings.Join(known, ", "))
}

// fileKeys are the keys that a configuration file may have: all but the one naming the file.
func fileKeys() []string {
	var keys []string
	for _, name := range twins() {
		if name != flagConfig {
			keys = append(keys, key(name))
		}
	}
	return keys
}

func twinOf(fileKey string) string { return strings.ReplaceAll(fileKey, "_", "-") }

func sortedKeys(document map[string]yaml.Node) []string {
	keys := make([]string, 0, len(document))
	for name := range document {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	return keys
}
