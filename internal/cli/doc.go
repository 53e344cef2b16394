// Package cli is the command pg-tide: one file for each subcommand, which
// turns flags, environment and configuration file into one call and shows what
// came of it. It refuses to hold logic of the bus: that lives in app and schema.
package cli
