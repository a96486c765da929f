package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

// answer reads the events of an upstream, and is read as the events that the client may see: with the text that is cleared,
// and with no field that was not judged.
type answer struct {
	name     string
	report   func(format string, values ...any)
	upstream io.ReadCloser
	lines    *bufio.Scanner
	writer   *qwenguard.Writer
	// What the writer has cleared and was not sent.
	cleared bytes.Buffer
	sent    int
	// Events for the client, and how they end.
	events bytes.Buffer
	end    error
}

// chunk is an event's data.
type chunk struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

type choice struct {
	Index        int     `json:"index"`
	Delta        delta   `json:"delta"`
	FinishReason *string `json:"finish_reason"`
}

type delta struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content,omitempty"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

func newAnswer(ctx context.Context, asked *conversation, upstream io.ReadCloser,
	report func(format string, values ...any)) *answer {
	a := &answer{name: asked.name, report: report, upstream: upstream, lines: bufio.NewScanner(upstream)}
	a.lines.Buffer(nil, 1<<20)
	a.writer = qwenguard.NewWriter(ctx, asked.stream, &a.cleared)
	return a
}

func (a *answer) Read(into []byte) (int, error) {
	for a.events.Len() == 0 && a.end == nil {
		a.end = a.next()
		if a.end != nil && a.end != io.EOF {
			a.report("%s: broken off after %d bytes: %v", a.name, a.sent, a.end)
		}
	}
	if a.events.Len() == 0 {
		return 0, a.end
	}
	return a.events.Read(into)
}

func (a *answer) Close() error { return a.upstream.Close() }

// next takes an event from the upstream.
func (a *answer) next() error {
	data, err := a.readEvent()
	if err != nil {
		return err
	}
	if data == "[DONE]" {
		fmt.Fprint(&a.events, "data: [DONE]\n\n")
		return io.EOF
	}
	var chunk chunk
	if err := json.Unmarshal([]byte(data), &chunk); err != nil {
		return err
	}
	if len(chunk.Choices) == 0 {
		return writeEvent(&a.events, chunk)
	}
	choice := &chunk.Choices[0]
	if len(chunk.Choices) > 1 || choice.Index != 0 {
		return errors.New("more than one answer")
	}
	err = a.judge(choice)
	var stop *qwenguard.StopError
	if errors.As(err, &stop) {
		a.report("%s: cut at byte %d of %d, %s: %v",
			a.name, a.sent, stop.Update.Received, stop.Rule, stop.Update.Violation.Risk)
		// The model need not write on.
		a.upstream.Close()
		writeEnd(&a.events, chunk, choice.Delta.Content)
		return io.EOF
	}
	if err != nil || choice.Delta == (delta{}) && choice.FinishReason == nil {
		return err
	}
	return writeEvent(&a.events, chunk)
}

// judge puts what is cleared in the place of what the event says.
func (a *answer) judge(choice *choice) error {
	_, err := a.writer.Write([]byte(choice.Delta.Content))
	if err == nil && choice.FinishReason != nil {
		err = a.writer.Close()
	}
	choice.Delta.Content = a.cleared.String()
	a.sent += a.cleared.Len()
	a.cleared.Reset()
	if err == nil && choice.FinishReason != nil {
		a.report("%s: complete, %d bytes", a.name, a.sent)
	}
	return err
}

// readEvent gives the data of the next event that has any.
func (a *answer) readEvent() (string, error) {
	var data []string
	for a.lines.Scan() {
		line := a.lines.Text()
		if line == "" && data != nil {
			return strings.Join(data, "\n"), nil
		}
		if text, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, strings.TrimPrefix(text, " "))
		}
	}
	if err := a.lines.Err(); err != nil {
		return "", err
	}
	return "", io.ErrUnexpectedEOF
}

func writeEvent(to io.Writer, chunk chunk) error {
	data, err := json.Marshal(chunk)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(to, "data: %s\n\n", data)
	return err
}

// writeEnd ends an event stream with what is left to be shown, and says that the rest was filtered.
func writeEnd(to io.Writer, last chunk, content string) {
	reason := "content_filter"
	last.Choices = []choice{{Delta: delta{Content: content}, FinishReason: &reason}}
	last.Usage = nil
	_ = writeEvent(to, last)
	fmt.Fprint(to, "data: [DONE]\n\n")
}
