// Package throwaway runs PostgreSQL servers that live no longer than the
// process that started them: for the demo and for tests. It finds the server's
// programs on the machine or fetches them once into a cache, keeps data,
// sockets and port of its own, and removes all of it at the end. It refuses to
// touch a server that it did not start, and knows nothing of the schema tide.
package throwaway
