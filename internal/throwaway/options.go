package throwaway

import (
	"io"
	"maps"
	"slices"
)

// The majors that the project supports.
const (
	Oldest = 14
	Newest = 18
)

// Options say which server to start. The zero value is a fast server without
// durability, of whatever supported major is on the machine.
type Options struct {
	// Major is the wanted major; 0 takes the newest one found on the machine,
	// else fetches Newest.
	Major int
	// Fetched ignores what is installed on the machine.
	Fetched bool
	// BinDir is the folder of the server's programs; it makes Major and
	// Fetched mean nothing.
	BinDir string
	// Settings are put on the server's command line, over our own.
	Settings map[string]string
	// Durable keeps fsync and full-page writes on, for servers that are
	// killed to see what survives, or measured.
	Durable bool
	// OwnIdentity runs initdb afresh (about a second) instead of copying a
	// cluster that was made earlier. Copies share one system identifier.
	OwnIdentity bool
	// PrivateTree gives the server a share directory of its own, so that
	// extension files may be placed there without touching the installation.
	PrivateTree bool
	// Dir is where the server's temporary directory is made; empty takes the
	// system's. The user that the server runs as must be able to reach it.
	Dir string
	// Notices gets one line when something has to be fetched; nil drops it.
	Notices io.Writer
}

func (o Options) notices() io.Writer {
	if o.Notices == nil {
		return io.Discard
	}
	return o.Notices
}

// arguments are the settings as command line arguments, in a stable order.
func (o Options) arguments(socketDir string) []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": socketDir,
		"max_connections":         "200",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"logging_collector":       "off",
	}
	if !o.Durable {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, o.Settings)
	var arguments []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		arguments = append(arguments, "-c", name+"="+settings[name])
	}
	return arguments
}
