package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// chunk is an event's data, as a client gets to see it.
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
	Role             string     `json:"role,omitempty"`
	Reasoning        string     `json:"reasoning,omitempty"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	Content          string     `json:"content,omitempty"`
	ToolCalls        []toolCall `json:"tool_calls,omitempty"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

func (d *delta) isEmpty() bool {
	return d.Role == "" && d.Reasoning == "" && d.ReasoningContent == "" && d.Content == "" && d.ToolCalls == nil
}

// add adds a piece that is cleared.
func (d *delta) add(s *segment, text string) {
	switch s.kind {
	case content:
		d.Content += text
	case reasoning:
		d.Reasoning += text
	case reasoningContent:
		d.ReasoningContent += text
	case callName:
		call := toolCall{Index: s.call.Index, ID: s.call.ID, Type: s.call.Type, Function: function{Name: text}}
		d.ToolCalls = append(d.ToolCalls, call)
	case callArguments:
		if last := len(d.ToolCalls) - 1; last >= 0 && *d.ToolCalls[last].Index == *s.call.Index {
			d.ToolCalls[last].Function.Arguments += text
		} else {
			d.ToolCalls = append(d.ToolCalls, toolCall{Index: s.call.Index, Function: function{Arguments: text}})
		}
	}
}

// answer passes an upstream's events on, as far as they are cleared.
type answer struct {
	judge
	to io.Writer
	// The last event, for what is to be said after it.
	last chunk
}

// relay passes on all events. It ends well only after the upstream has said that it is done.
func (a *answer) relay(upstream io.Reader) error {
	events := events{from: bufio.NewReader(upstream)}
	for {
		event, err := events.next()
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case event.name == "error":
			return fmt.Errorf("the upstream says: %.200q", event.data)
		case event.data == "[DONE]":
			return a.done()
		}
		if err := a.pass(event.data); err != nil {
			return err
		}
	}
}

// pass judges an event and passes on what is cleared.
func (a *answer) pass(data string) error {
	o := parseObject("", []byte(data))
	if said, ok := o.take("error"); ok {
		return fmt.Errorf("the upstream says: %.200q", said)
	}
	a.last = chunk{ID: o.identifier("id"), Object: o.identifier("object"), Model: o.identifier("model")}
	o.into("created", &a.last.Created)
	if value, ok := o.take("usage"); ok {
		u := parseObject("usage", value)
		a.last.Usage = &usage{}
		u.into("prompt_tokens", &a.last.Usage.PromptTokens)
		u.into("completion_tokens", &a.last.Usage.CompletionTokens)
		u.into("total_tokens", &a.last.Usage.TotalTokens)
		if u.err != nil {
			return u.err
		}
	}
	_, some := o.fields["choices"]
	choices := o.list("choices")
	switch {
	case o.err != nil:
		return o.err
	case !some || len(choices) > 1:
		return errors.New("choices: not one answer")
	case len(choices) == 1:
		return a.passChoice(parseObject("choices[0]", choices[0]))
	case a.last.Usage == nil:
		return nil
	}
	a.last.Choices = []choice{}
	return writeEvent(a.to, a.last)
}

func (a *answer) passChoice(o *object) error {
	index := 0
	if o.into("index", &index); index != 0 {
		o.fail("index", "more than one answer")
	}
	var reason *string
	if o.into("finish_reason", &reason); reason != nil && !identifier.MatchString(*reason) {
		o.fail("finish_reason", "%.40q is no name", *reason)
	}
	value, some := o.take("delta")
	if o.err != nil {
		return o.err
	}
	if some {
		if err := a.judgeDelta(parseObject("delta", value)); err != nil {
			return err
		}
	}
	if reason != nil {
		if err := a.finish(); err != nil {
			return err
		}
	}
	return a.write(reason)
}

// judgeDelta judges what an event adds to the answer. What it has beside this cannot be judged.
func (a *answer) judgeDelta(o *object) error {
	role := o.text("role")
	if role != "" && role != "assistant" {
		o.fail("role", "%.40q is not the assistant", role)
	}
	texts := []segment{
		{kind: reasoning, text: o.text("reasoning")},
		{kind: reasoningContent, text: o.text("reasoning_content")},
		{kind: content, text: o.text("content")},
	}
	var calls []toolCall
	for index, value := range o.list("tool_calls") {
		call, err := parseCall(parseObject(o.place("tool_calls", index), value))
		if err != nil {
			return err
		}
		calls = append(calls, call)
	}
	if err := o.end(); err != nil {
		return err
	}
	a.cleared.Role = role
	for _, text := range texts {
		if a.call != nil && text.text != "" {
			return errors.New("text after a call")
		}
		if err := a.push(text); err != nil {
			return err
		}
	}
	for _, call := range calls {
		if err := a.pushCall(call); err != nil {
			return err
		}
	}
	return nil
}

// write passes on what is cleared, with the fields of the last event.
func (a *answer) write(reason *string) error {
	next := a.last
	next.Choices = []choice{{Delta: a.cleared, FinishReason: reason}}
	empty := a.cleared.isEmpty() && reason == nil && next.Usage == nil
	a.cleared = delta{}
	if empty {
		return nil
	}
	return writeEvent(a.to, next)
}

// done ends the answer, also for an upstream that did not say how it ended.
func (a *answer) done() error {
	if !a.ended {
		if err := a.finish(); err != nil {
			return err
		}
		a.last.Usage = nil
		if err := a.write(nil); err != nil {
			return err
		}
	}
	_, err := io.WriteString(a.to, "data: [DONE]\n\n")
	return err
}

// filtered ends the events with what is left to be shown, and says that the rest was filtered.
func (a *answer) filtered() error {
	reason := "content_filter"
	a.last.Usage = nil
	if a.last.Object == "" {
		a.last.Object = "chat.completion.chunk"
	}
	if err := a.write(&reason); err != nil {
		return err
	}
	_, err := io.WriteString(a.to, "data: [DONE]\n\n")
	return err
}

func writeEvent(to io.Writer, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(to, "data: %s\n\n", text)
	return err
}
