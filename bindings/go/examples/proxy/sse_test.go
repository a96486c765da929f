package main

import (
	"bufio"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestEvents(t *testing.T) {
	for name, stream := range map[string]struct {
		text string
		want []event
	}{
		"line feeds":        {"data: a\n\ndata: b\n\n", []event{{"", "a"}, {"", "b"}}},
		"carriage returns":  {"data: a\r\rdata: b\r\r", []event{{"", "a"}, {"", "b"}}},
		"both":              {"data: a\r\n\r\ndata: b\r\n\r\n", []event{{"", "a"}, {"", "b"}}},
		"mixed":             {"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r", []event{{"", "a"}, {"", "b"}, {"", "c"}}},
		"byte order mark":   {"\ufeffdata: a\n\n\ufeffdata: b\n\ndata: c\n\n", []event{{"", "a"}, {"", "c"}}},
		"comments":          {": hello\n\n:\ndata: a\n: x\ndata: b\n\n", []event{{"", "a\nb"}}},
		"several lines":     {"data: a\ndata:b\ndata:  c\ndata\n\n", []event{{"", "a\nb\n c\n"}}},
		"names":             {"event: error\ndata: a\n\nevent: x\n\ndata: b\n\n", []event{{"error", "a"}, {"", "b"}}},
		"other fields":      {"id: 1\nretry: 2\ndata : x\nDATA: x\ndata: a\n\n", []event{{"", "a"}}},
		"no last line end":  {"data: a\n\ndata: b", []event{{"", "a"}, {"", "b"}}},
		"no last event end": {"data: a\n\ndata: b\n", []event{{"", "a"}, {"", "b"}}},
		"nothing":           {"", nil},
		"no data":           {"event: x\n\n: y\n", nil},
	} {
		for _, from := range []io.Reader{strings.NewReader(stream.text), iotest.OneByteReader(strings.NewReader(stream.text))} {
			events := events{from: bufio.NewReader(from)}
			var found []event
			event, err := events.next()
			for ; err == nil; event, err = events.next() {
				found = append(found, event)
			}
			if err != io.EOF || !reflect.DeepEqual(found, stream.want) {
				t.Errorf("%s: %q, %v", name, found, err)
			}
		}
	}
}

// An event comes when its last line has ended, not when the next byte shows that CR was all of that.
func TestAnEventDoesNotWaitForMore(t *testing.T) {
	from, to := io.Pipe()
	go func() { _, _ = io.WriteString(to, "data: a\r\r") }()
	events := events{from: bufio.NewReader(from)}
	if event, err := events.next(); err != nil || event.data != "a" {
		t.Fatal(event, err)
	}
	to.Close()
}

func TestLongEvents(t *testing.T) {
	for _, text := range []string{
		"data: " + strings.Repeat("x", maxEvent) + "\n\n", strings.Repeat("data: xxxxxxxxxx\n", maxEvent/10), ":" + strings.Repeat("x", maxEvent),
	} {
		events := events{from: bufio.NewReader(strings.NewReader(text))}
		if _, err := events.next(); err == nil || err == io.EOF {
			t.Error(err)
		}
	}
}
