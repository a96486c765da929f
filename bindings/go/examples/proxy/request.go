package main

import (
	"encoding/json"
	"errors"
	"fmt"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

// request is what is asked for, and a body that says no more than what was judged.
type request struct {
	messages []qwenguard.Message
	body     []byte
}

type fields = map[string]json.RawMessage

// parseRequest reads a request for one streamed answer to texts; others cannot be judged. The body is written anew, so that
// no key is there twice and everybody reads the same.
func parseRequest(body []byte) (*request, error) {
	var all fields
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	if string(all["stream"]) != "true" {
		return nil, errors.New("stream: only streamed answers are moderated here")
	}
	if n, ok := all["n"]; ok && string(n) != "1" {
		return nil, errors.New("n: only single answers are moderated here")
	}
	var messages []fields
	if err := json.Unmarshal(all["messages"], &messages); err != nil {
		return nil, fmt.Errorf("messages: %w", err)
	}
	made := &request{}
	for index, message := range messages {
		var role string
		if err := json.Unmarshal(message["role"], &role); err != nil {
			return nil, fmt.Errorf("messages[%d].role: %w", index, err)
		}
		content, err := parseContent(message["content"])
		if err != nil {
			return nil, fmt.Errorf("messages[%d].content: %w", index, err)
		}
		made.messages = append(made.messages, qwenguard.Message{Role: role, Content: content})
		message["content"], _ = json.Marshal(content)
	}
	all["messages"], _ = json.Marshal(messages)
	made.body, _ = json.Marshal(all)
	return made, nil
}

// parseContent reads a text, or texts in parts.
func parseContent(content json.RawMessage) (string, error) {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text, nil
	}
	var parts []struct{ Type, Text string }
	if err := json.Unmarshal(content, &parts); err != nil {
		return "", err
	}
	for _, part := range parts {
		if part.Type != "text" {
			return "", fmt.Errorf("a part of type %q cannot be judged", part.Type)
		}
		text += part.Text
	}
	return text, nil
}
