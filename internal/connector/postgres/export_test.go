package postgres

// Verifies says whether every connection that may be tried checks the server's
// certificate and name.
func Verifies(values Values) (bool, error) {
	config, err := connection(values)
	if err != nil {
		return false, err
	}
	verifies := config.ConnConfig.TLSConfig != nil && !config.ConnConfig.TLSConfig.InsecureSkipVerify
	for _, other := range config.ConnConfig.Fallbacks {
		verifies = verifies && other.TLSConfig != nil && !other.TLSConfig.InsecureSkipVerify
	}
	return verifies, nil
}
