package kafka

import (
	"errors"
	"fmt"
	"strings"
)

// maxTopicName is the most bytes of a topic's name.
const maxTopicName = 249

// SafeToken makes a value safe within the name of a topic: whatever is no
// letter, digit, _ or - of ASCII, and (unless allowed) dots, become "_", and so
// does an empty value and an empty part between dots.
func SafeToken(value string, dotsAllowed bool) string {
	var b strings.Builder
	lastDot := true // an empty part at the start
	for _, r := range value {
		if r == '.' && dotsAllowed {
			if lastDot {
				b.WriteByte('_')
			}
			b.WriteByte('.')
			lastDot = true
			continue
		}
		lastDot = false
		if r != '.' && r < 0x80 && topicByte(byte(r)) {
			b.WriteRune(r)
		} else {
			b.WriteByte('_')
		}
	}
	if lastDot {
		b.WriteByte('_')
	}
	return b.String()
}

// CheckTopic says what is wrong with a topic to write to. It is for what the
// operator wrote around the placeholders of a template.
func CheckTopic(topic string) error {
	if problem := topicProblem(topic); problem != "" {
		return errors.New(problem)
	}
	if strings.HasPrefix(topic, "__") {
		return errors.New("topics that begin with __ are the brokers' own")
	}
	return nil
}

// topicProblem says what is wrong with a topic's name, or "".
func topicProblem(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case name == "." || name == "..":
		return "Kafka allows neither . nor .."
	case len(name) > maxTopicName:
		return fmt.Sprintf("it has %d bytes, and Kafka takes %d", len(name), maxTopicName)
	}
	for _, r := range name {
		if r >= 0x80 || !topicByte(byte(r)) {
			return fmt.Sprintf("it holds %q; letters, digits, dots, _ and - are allowed", r)
		}
	}
	return ""
}

func topicByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
