package throwaway

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// installation is one set of PostgreSQL's programs.
type installation struct {
	major    int
	version  string // as the server says it, such as 15.18
	binDir   string
	shareDir string
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (([0-9]+)[^ \n]*)`)

// locate returns the installation that options ask for, fetching it if need be.
func locate(ctx context.Context, options Options) (installation, error) {
	if options.BinDir != "" {
		found, err := inspect(ctx, options.BinDir)
		if err != nil {
			return installation{}, fmt.Errorf("use the PostgreSQL in %s: %w", options.BinDir, err)
		}
		options.Major = found.major // for the check below
		if found.major >= Oldest && found.major <= Newest {
			return found, nil
		}
	}
	if options.Major != 0 && (options.Major < Oldest || options.Major > Newest) {
		return installation{}, fmt.Errorf("start PostgreSQL %d: only %d to %d are supported", options.Major, Oldest, Newest)
	}
	if !options.Fetched {
		if found, ok := installed(ctx, options.Major); ok {
			return found, nil
		}
	}
	major := options.Major
	if major == 0 {
		major = Newest
	}
	return fetch(ctx, major, options.notices())
}

// InstalledMajor returns the newest supported major on the machine, or 0.
func InstalledMajor(ctx context.Context) int {
	found, _ := installed(ctx, 0)
	return found.major
}

// Tool finds a client program such as pg_dump, of that major or a later one,
// on the machine. Fetched servers come without any.
func Tool(ctx context.Context, name string, major int) (string, bool) {
	for wanted := major; wanted <= Newest; wanted++ {
		for _, found := range installations(ctx) {
			path := filepath.Join(found.binDir, name)
			if found.major == wanted && executable(path) {
				return path, true
			}
		}
	}
	return "", false
}

// installed returns the installation of that major, or for 0 the newest
// supported one on the machine.
func installed(ctx context.Context, major int) (installation, bool) {
	var best installation
	for _, found := range installations(ctx) {
		supported := found.major >= Oldest && found.major <= Newest
		if supported && (major == 0 || found.major == major) && found.major > best.major {
			best = found
		}
	}
	return best, best.major != 0
}

// installations lists what is on the machine, once each.
func installations(ctx context.Context) []installation {
	var all []installation
	var seen []string
	for _, dir := range programDirs(ctx) {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil || slices.Contains(seen, dir) {
			continue
		}
		seen = append(seen, dir)
		if found, err := inspect(ctx, dir); err == nil {
			all = append(all, found)
		}
	}
	return all
}

// programDirs are the places where packages put the server's programs.
func programDirs(ctx context.Context) []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err == nil { // only a malformed pattern fails
			dirs = append(dirs, found...)
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	return dirs
}

// inspect asks the programs in dir what they are.
func inspect(ctx context.Context, dir string) (installation, error) {
	for _, name := range []string{"postgres", "initdb"} {
		if !executable(filepath.Join(dir, name)) {
			return installation{}, fmt.Errorf("no %s in %s", name, dir)
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return installation{}, fmt.Errorf("ask %s/postgres for its version: %w", dir, err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return installation{}, fmt.Errorf("%s/postgres gives its version as %q", dir, out)
	}
	major, err := strconv.Atoi(string(match[2]))
	if err != nil {
		return installation{}, fmt.Errorf("%s/postgres gives its version as %q", dir, out)
	}
	found := installation{major: major, version: string(match[1]), binDir: dir}
	found.shareDir, err = findShareDir(ctx, found)
	return found, err
}

// findShareDir asks pg_config, which a fetched installation lacks, and else
// looks beside the programs.
func findShareDir(ctx context.Context, in installation) (string, error) {
	var dirs []string
	if out, err := exec.CommandContext(ctx, filepath.Join(in.binDir, "pg_config"), "--sharedir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	share := filepath.Join(filepath.Dir(in.binDir), "share")
	dirs = append(dirs, filepath.Join(share, "postgresql"), share,
		filepath.Join("/usr/share/postgresql", strconv.Itoa(in.major)))
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "postgres.bki")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no share directory belongs to %s", in.binDir)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
