// Package java finds a Java runtime that is new enough. It refuses to fetch one.
package java

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// Runtime is a Java that is installed.
type Runtime struct {
	// Home is its folder, Program the command java in it.
	Home, Program string
	// Version is what it says of itself, such as 17.0.15.
	Version string
}

var versionLine = regexp.MustCompile(`version "((\d+)[^"]*)"`)

// Find returns the first Java that is new enough: that of JAVA_HOME, the one
// on the path, or one where systems keep them.
func Find(ctx context.Context, least int) (Runtime, error) {
	homes, _ := filepath.Glob("/usr/lib/jvm/*") // the pattern is right
	if path, err := exec.LookPath("java"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			homes = append([]string{filepath.Dir(filepath.Dir(path))}, homes...)
		}
	}
	if home := os.Getenv("JAVA_HOME"); home != "" {
		homes = append([]string{home}, homes...)
	}
	for _, home := range homes {
		r := Runtime{Home: home, Program: filepath.Join(home, "bin", "java")}
		out, err := exec.CommandContext(ctx, r.Program, "-version").CombinedOutput()
		if err != nil {
			continue
		}
		found := versionLine.FindSubmatch(out)
		if found == nil {
			continue
		}
		if major, err := strconv.Atoi(string(found[2])); err == nil && major >= least {
			r.Version = string(found[1])
			return r, nil
		}
	}
	return Runtime{}, fmt.Errorf("there is no Java %d or newer; hint: install one, on Debian the package default-jre-headless, or set JAVA_HOME", least)
}
