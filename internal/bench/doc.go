// Package bench measures the product beside plain loops that do the same work
// with the same libraries, in turns and on one machine, so that the ratio says
// something wherever it is run. The loops are in yardstick, to be read. Servers
// are its own unless told otherwise; on the user's it makes databases and
// streams of its own and removes them. It refuses to judge: being slow is no
// failure.
package bench
