// Package yardstick is the loops that one would write by hand, with the same
// libraries as the product and nothing of it: no pipelines, no owners, no
// retries, no retention, no second reader. They lose events when transactions
// overlap and know nothing of crashes; they are here to be as fast as such a
// loop is. It refuses to import the product.
package yardstick
