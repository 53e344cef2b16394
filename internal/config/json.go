package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// parse reads one JSON value, numbers as json.Number, and returns the paths of
// keys that were given twice: which of the two counts would be a guess.
func parse(raw []byte) (value any, twice []string, err error) {
	p := parser{decoder: json.NewDecoder(bytes.NewReader(raw))}
	p.decoder.UseNumber()
	value, err = p.value("")
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("something stands behind it, at byte %d", p.decoder.InputOffset())
	}
	return value, p.twice, nil
}

type parser struct {
	decoder *json.Decoder
	twice   []string
}

func (p *parser) value(path string) (any, error) {
	token, err := p.token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return p.object(path)
	case json.Delim('['):
		return p.list(path)
	}
	return token, nil
}

func (p *parser) token() (json.Token, error) {
	token, err := p.decoder.Token()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it ends in the middle")
	}
	return token, err
}

func (p *parser) object(path string) (any, error) {
	object := map[string]any{}
	for p.decoder.More() {
		token, err := p.token()
		if err != nil {
			return nil, err
		}
		key, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("a key is expected at byte %d", p.decoder.InputOffset())
		}
		at := join(path, key)
		if _, ok := object[key]; ok {
			p.twice = append(p.twice, at)
		}
		if object[key], err = p.value(at); err != nil {
			return nil, err
		}
	}
	_, err := p.token()
	return object, err
}

func (p *parser) list(path string) (any, error) {
	list := []any{}
	for p.decoder.More() {
		item, err := p.value(index(path, len(list)))
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	_, err := p.token()
	return list, err
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
