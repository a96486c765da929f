package main

import (
	"encoding/json"
	"fmt"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

// request is what is asked for: the turns to judge, and a body for the upstream that says no more than these.
type request struct {
	turns []turn
	body  []byte
}

// turn is a message as the guard reads it.
type turn struct {
	qwenguard.Message
	// Of an answer.
	reasoning string
}

// message is one as the upstream reads it.
type message struct {
	Role             string     `json:"role"`
	Content          string     `json:"content"`
	Reasoning        string     `json:"reasoning,omitempty"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ToolCalls        []toolCall `json:"tool_calls,omitempty"`
	ToolCallID       string     `json:"tool_call_id,omitempty"`
}

// numbers are fields that a request may have for the upstream alone.
var numbers = []string{
	"temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "presence_penalty", "frequency_penalty",
}

// parseRequest reads a request for one streamed answer. The body is written anew from what was read.
func parseRequest(data []byte) (*request, error) {
	o := parseObject("", data)
	body := map[string]any{"stream": true}
	var stream bool
	if o.into("stream", &stream); !stream {
		o.fail("stream", "only streamed answers are moderated here")
	}
	one := 1.0
	if o.into("n", &one); one != 1 {
		o.fail("n", "only single answers are moderated here")
	}
	if model := o.identifier("model"); model != "" {
		body["model"] = model
	}
	for _, name := range numbers {
		var number float64
		value, ok := o.fields[name]
		if o.into(name, &number); ok {
			body[name] = value
		}
	}
	if options, ok := o.take("stream_options"); ok {
		var usage bool
		options := parseObject("stream_options", options)
		options.into("include_usage", &usage)
		if err := options.end(); err != nil {
			return nil, err
		}
		body["stream_options"] = map[string]bool{"include_usage": usage}
	}
	made := &request{}
	var messages []message
	for index, value := range o.list("messages") {
		message, turn, err := parseMessage(parseObject(o.place("messages", index), value))
		if err != nil {
			return nil, err
		}
		messages, made.turns = append(messages, message), append(made.turns, turn)
	}
	if len(messages) == 0 || messages[len(messages)-1].Role != "user" && messages[len(messages)-1].Role != "tool" {
		o.fail("messages", "the last must be the user's, or a tool's")
	}
	if err := o.end(); err != nil {
		return nil, err
	}
	body["messages"] = messages
	var err error
	made.body, err = json.Marshal(body)
	return made, err
}

func parseMessage(o *object) (message, turn, error) {
	m := message{Role: o.text("role")}
	m.Content = parseContent(o)
	read := m.Content
	role := m.Role
	switch m.Role {
	case "system", "user":
	case "developer":
		role = "system"
	case "tool":
		m.ToolCallID = o.identifier("tool_call_id")
		// What the chat template makes of it, so that it is judged as a turn of the user's.
		role, read = "user", "<tool_response>\n"+m.Content+"\n</tool_response>"
	case "assistant":
		m.Reasoning, m.ReasoningContent = o.text("reasoning"), o.text("reasoning_content")
		for index, value := range o.list("tool_calls") {
			call, err := parseCall(parseObject(o.place("tool_calls", index), value))
			if err != nil {
				return m, turn{}, err
			}
			call.Index = nil
			m.ToolCalls = append(m.ToolCalls, call)
			read += callStart + call.Function.Name + callMiddle + call.Function.Arguments + callEnd
		}
	default:
		o.fail("role", "%.40q is not moderated here", m.Role)
	}
	reasoning := m.ReasoningContent + m.Reasoning
	return m, turn{qwenguard.Message{Role: role, Content: read}, reasoning}, o.end()
}

// parseContent reads a text, or texts in parts.
func parseContent(o *object) (text string) {
	if value := o.fields["content"]; len(value) == 0 || value[0] != '[' {
		return o.text("content")
	}
	for index, value := range o.list("content") {
		part := parseObject(o.place("content", index), value)
		if kind := part.text("type"); kind != "text" {
			part.fail("type", "a part of type %.40q cannot be judged", kind)
		}
		text += part.text("text")
		if err := part.end(); err != nil && o.err == nil {
			o.err = err
		}
	}
	return text
}

// toolCall is one in a message, or a part of it in an event, where it has an index.
type toolCall struct {
	Index    *int     `json:"index,omitempty"`
	ID       string   `json:"id,omitempty"`
	Type     string   `json:"type,omitempty"`
	Function function `json:"function"`
}

type function struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// How a chat template writes a call, which is how the guard reads it.
const (
	callStart  = "\n<tool_call>\n{\"name\": \""
	callMiddle = "\", \"arguments\": "
	callEnd    = "}\n</tool_call>"
)

func parseCall(o *object) (toolCall, error) {
	call := toolCall{ID: o.identifier("id"), Type: o.identifier("type")}
	if call.Type != "" && call.Type != "function" {
		o.fail("type", "calls of type %q are not moderated here", call.Type)
	}
	var index int
	if o.into("index", &index) {
		call.Index = &index
	}
	if value, ok := o.take("function"); ok {
		function := parseObject(fmt.Sprint(o.path, ".function"), value)
		call.Function.Name, call.Function.Arguments = function.text("name"), function.text("arguments")
		if err := function.end(); err != nil {
			return call, err
		}
	}
	return call, o.end()
}
