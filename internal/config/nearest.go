package config

// Nearest returns the candidate that is most like word, or "" when none is
// near enough to be what was meant. It is for "did you mean".
func Nearest(word string, candidates []string) string {
	// A word of which nothing would be left is no misspelling of another.
	best, bestDistance := "", min(max(2, len(word)/3), len(word)-1)+1
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
