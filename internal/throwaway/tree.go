package throwaway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// privateTree makes an installation under root whose share directory may be
// written to. PostgreSQL finds its files relative to its program, so the
// program is a copy and everything around it a link, at the same distances.
func privateTree(in installation, root string) (installation, error) {
	prefix := commonParent(in.binDir, in.shareDir)
	private := in
	private.binDir = filepath.Join(root, strings.TrimPrefix(in.binDir, prefix))
	private.shareDir = filepath.Join(root, strings.TrimPrefix(in.shareDir, prefix))
	for _, dir := range []string{private.binDir, filepath.Join(private.shareDir, "extension")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return installation{}, err
		}
	}
	for _, name := range []string{"postgres", "pg_config"} {
		from := filepath.Join(in.binDir, name)
		if !executable(from) {
			continue // fetched installations have no pg_config
		}
		if err := copyFile(from, filepath.Join(private.binDir, name), 0o755); err != nil {
			return installation{}, err
		}
	}
	links := [][2]string{
		{filepath.Dir(in.binDir), filepath.Dir(private.binDir)}, // libraries
		{in.shareDir, private.shareDir},
		{filepath.Join(in.shareDir, "extension"), filepath.Join(private.shareDir, "extension")},
	}
	for _, link := range links {
		if err := linkEntries(link[0], link[1]); err != nil {
			return installation{}, err
		}
	}
	return private, readableByAll(root)
}

// linkEntries links what from holds into to, except what is there already.
func linkEntries(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		target := filepath.Join(to, entry.Name())
		if _, err := os.Lstat(target); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(from, entry.Name()), target); err != nil {
			return fmt.Errorf("link %s: %w", entry.Name(), err)
		}
	}
	return nil
}

// commonParent is the deepest directory that holds both.
func commonParent(a, b string) string {
	for a != b {
		if len(a) < len(b) {
			a, b = b, a
		}
		a = filepath.Dir(a)
	}
	return a
}
