package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// maxEvent is the most bytes of an event: no more than the guard takes at once.
const maxEvent = 1 << 20

// events reads server-sent events, as the HTML standard has them: lines end with CR, LF or both; a byte order mark at the
// start, comments and fields that mean nothing are skipped. Unlike there, the last event may lack the empty line.
type events struct {
	from *bufio.Reader
	// Whether an LF is the second half of a line's end, and whether anything was read.
	afterCR, begun bool
}

// event is one with data.
type event struct{ name, data string }

func (e *events) next() (event, error) {
	var found event
	var data []string
	for size := 0; ; {
		line, err := e.line(maxEvent - size)
		size += len(line)
		if err != nil && (err != io.EOF || line == "" && data == nil) {
			return event{}, err
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data == nil:
			found = event{}
		case field == "data":
			data = append(data, value)
		case field == "event":
			found.name = value
		}
		if data != nil && (line == "" || err == io.EOF) {
			found.data = strings.Join(data, "\n")
			return found, nil
		}
		if err != nil {
			return event{}, err
		}
	}
}

// line reads up to the end of a line, or of everything.
func (e *events) line(most int) (string, error) {
	var line []byte
	for {
		b, err := e.from.ReadByte()
		if err != nil {
			return e.text(line), err
		}
		half := e.afterCR && b == '\n'
		e.afterCR = b == '\r'
		switch {
		case half:
		case b == '\r' || b == '\n':
			return e.text(line), nil
		case len(line) == most:
			return "", errors.New("an event is too long")
		default:
			line = append(line, b)
		}
	}
}

func (e *events) text(line []byte) string {
	text := string(line)
	if !e.begun {
		text = strings.TrimPrefix(text, "\ufeff")
	}
	e.begun = true
	return text
}
