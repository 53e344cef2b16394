package webhook

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// URLSegment makes a value safe within the path of a URL: it is one segment,
// whatever it holds. Dots stay where they are part of a name, but for a
// segment of dots alone, which would lead up; an empty value becomes "_".
func URLSegment(value string, dotsAllowed bool) string {
	if !dotsAllowed || strings.Trim(value, ".") == "" {
		value = strings.ReplaceAll(value, ".", "_")
	}
	if value == "" {
		return "_"
	}
	// PathEscape leaves signs that mean something to some servers.
	return strings.NewReplacer("&", "%26", "=", "%3D", "+", "%2B", ":", "%3A", "@", "%40", "$", "%24").Replace(url.PathEscape(value))
}

// URLPath says what is wrong with a path to post to. It is for what the
// operator wrote around the placeholders of a template.
func URLPath(path string) error {
	if at := strings.IndexAny(path, "?# \t\r\n\\"); at >= 0 {
		return fmt.Errorf("it holds %q, which no path has; a query belongs into url", path[at])
	}
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if segment == "." || segment == ".." {
			return errors.New("it holds a segment of dots; write the path out")
		}
	}
	if strings.Contains(path, "//") {
		return errors.New("it holds an empty segment")
	}
	if _, err := url.Parse("/" + strings.TrimPrefix(path, "/")); err != nil {
		return errors.New("it is not a path of a URL")
	}
	return nil
}
