// Package app is the composition root: from options to a running relay. It
// refuses to hold logic of its own: it waits for the database, plugs the parts
// together and takes them apart again in order.
package app
