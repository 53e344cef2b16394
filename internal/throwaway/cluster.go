package throwaway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pg-tide/pg-tide/internal/cache"
)

// superuser owns every throwaway cluster.
const superuser = "postgres"

// accessRules lets in everybody who can reach the socket, whose directory
// belongs to the server's user alone, and asks for the password elsewhere:
// the port of a throwaway server is open to all users of the machine.
const accessRules = `local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`

func initdbArguments() []string {
	return []string{"--username=" + superuser, "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync"}
}

// makeCluster fills dataDir with a fresh cluster.
func makeCluster(ctx context.Context, in installation, as account, dataDir string, options Options) error {
	if options.OwnIdentity {
		if err := initdb(ctx, in, as, dataDir); err != nil {
			return err
		}
	} else {
		template, err := clusterTemplate(ctx, in, as)
		if err != nil {
			return err
		}
		if err := copyTree(template, dataDir, as); err != nil {
			return fmt.Errorf("copy the prepared cluster: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(dataDir, "pg_hba.conf"), []byte(accessRules), 0o600)
}

// initdb runs as the server's user, in a directory that this user can enter.
func initdb(ctx context.Context, in installation, as account, dataDir string) error {
	if err := os.Mkdir(dataDir, 0o700); err != nil {
		return err
	}
	if err := as.own(dataDir); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(in.binDir, "initdb"), append(initdbArguments(), "--pgdata="+dataDir)...)
	command.Dir = dataDir
	command.Env = environment()
	command.SysProcAttr = childAttributes(as)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb of PostgreSQL %s: %w\n%s", in.version, err, out)
	}
	return nil
}

// clusterTemplate returns a cluster that was made before by these programs
// with these arguments, or makes it.
func clusterTemplate(ctx context.Context, in installation, as account) (string, error) {
	kept, err := cache.Dir(cacheName)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256([]byte(in.binDir + in.version + runtime.GOARCH + strings.Join(initdbArguments(), " ")))
	name := "cluster-" + in.version + "-" + hex.EncodeToString(digest[:6])
	template := filepath.Join(kept, name)
	if _, err := os.Stat(template); err == nil {
		return template, nil
	}
	release, err := cache.Lock(ctx, kept, name)
	if err != nil {
		return "", err
	}
	defer release()
	if _, err := os.Stat(template); err == nil {
		return template, nil
	}
	return template, makeTemplate(ctx, in, as, template)
}

// makeTemplate runs initdb where the server's user can work and renames the
// result into the cache, where it belongs to us: the server's user must not be
// able to change what later servers start from.
func makeTemplate(ctx context.Context, in installation, as account, template string) error {
	work, err := makeBase(as, "")
	if err != nil {
		return err
	}
	defer work.remove()
	dataDir := filepath.Join(work.dir, "data")
	if err := initdb(ctx, in, as, dataDir); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(filepath.Dir(template), "stage-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(stage) }() // a leftover only takes room
	if err := copyTree(dataDir, filepath.Join(stage, "data"), account{}); err != nil {
		return fmt.Errorf("keep the prepared cluster: %w", err)
	}
	return os.Rename(filepath.Join(stage, "data"), template)
}

// copyTree copies files and directories with their permissions and hands them
// to the account. A cluster without tablespaces holds nothing else.
func copyTree(from, to string, as account) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			err = os.Mkdir(target, info.Mode().Perm())
		case entry.Type().IsRegular():
			err = copyFile(path, target, info.Mode().Perm())
		default:
			err = fmt.Errorf("%s is neither a file nor a directory", path)
		}
		if err != nil {
			return err
		}
		return as.own(target)
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // only read from
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		_ = target.Close() // the copy failed already
		return err
	}
	return target.Close()
}

// environment is ours without what would lead the server's programs astray.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_") && !strings.HasPrefix(variable, "LANG") {
			kept = append(kept, variable)
		}
	}
	return append(kept, "LC_ALL=C")
}
