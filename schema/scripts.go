package schema

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// script is one SQL file.
type script struct {
	name, text string
}

// versions lists the released versions, oldest first, and the last of the
// numbered table files that each contains.
var versions = []struct {
	version string
	tables  string
}{
	{"1.0", "0005"},
	{"1.1", "0015"},
}

// tablesBetween returns the table files that lead from one version to
// another; from nothing when from is empty.
func tablesBetween(from, to string) ([]script, error) {
	last := map[string]string{"": "0000"}
	for _, v := range versions {
		last[v.version] = v.tables
	}
	all, err := folder("tables")
	if err != nil {
		return nil, err
	}
	var wanted []script
	for _, s := range all {
		number, _, _ := strings.Cut(path.Base(s.name), "_")
		if number > last[from] && number <= last[to] {
			wanted = append(wanted, s)
		}
	}
	return wanted, nil
}

// replaceable returns the files that every version brings whole, in the order
// in which they run.
func replaceable() ([]script, error) {
	var wanted []script
	for _, name := range []string{"functions", "views", "access"} {
		found, err := folder(name)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, found...)
	}
	return wanted, nil
}

func folder(name string) ([]script, error) {
	paths, err := fs.Glob(files, name+"/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	var found []script
	for _, p := range paths {
		text, err := files.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", p, err)
		}
		found = append(found, script{name: p, text: string(text)})
	}
	return found, nil
}
