package main

import (
	"context"
	"errors"
	"fmt"

	qwenguard "github.com/libqwenguard/libqwenguard/bindings/go"
)

// errRefused tells that a turn of the request is not to be answered.
var errRefused = errors.New("prompt refused")

// judgeRequest judges every turn: an answer as one, with its thinking; all else as what a user says, also the system's and
// tools' texts. Afterwards the stream has the prompt that is to be answered.
func judgeRequest(ctx context.Context, guard *qwenguard.Guard, stream *qwenguard.Stream, turns []turn) error {
	var before []qwenguard.Message
	prompted := false
	for index, turn := range turns {
		var err error
		switch {
		case turn.Role == "user":
			err = judgePrompt(ctx, stream, append(before[:index:index], turn.Message)...)
			prompted = true
		case turn.Role == "assistant" && prompted:
			prompted = false
			answer := &judge{ctx: ctx, stream: stream}
			err = answer.push(segment{kind: reasoning, text: turn.reasoning})
			if err == nil {
				err = answer.push(segment{kind: content, text: turn.Content})
			}
			if err == nil {
				err = answer.finish()
			}
		default:
			err = judgeAlone(ctx, guard, turn.reasoning+turn.Content)
		}
		if errors.Is(err, errRefused) && index == len(turns)-1 {
			return err
		}
		if err != nil {
			return fmt.Errorf("%w (messages[%d])", err, index)
		}
		before = append(before, turn.Message)
	}
	return nil
}

func judgePrompt(ctx context.Context, stream *qwenguard.Stream, messages ...qwenguard.Message) error {
	check, err := stream.Prompt(ctx, messages...)
	if err == nil && check.Decision == qwenguard.DecisionStop {
		rule, _ := stream.Rule()
		err = fmt.Errorf("%w, %s", errRefused, rule)
	}
	return err
}

// judgeAlone judges a text that answers nobody.
func judgeAlone(ctx context.Context, guard *qwenguard.Guard, text string) error {
	stream, err := guard.NewStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	return judgePrompt(ctx, stream, qwenguard.User(text))
}

// What a piece of an answer is.
const (
	// only is for the guard alone.
	only = iota
	content
	reasoning
	reasoningContent
	callName
	callArguments
)

// segment is a piece of an answer that the guard was given.
type segment struct {
	kind int
	text string
	// For pieces of calls.
	call toolCall
}

// judge has a stream judge an answer, and collects what is cleared of it. The guard's horizon counts the bytes of all
// segments, one after the other.
type judge struct {
	ctx    context.Context
	stream *qwenguard.Stream
	// What was judged and is not cleared, and how many bytes are.
	held []segment
	at   int
	// Whether more than thinking came, and whether the answer has ended.
	begun, ended bool
	// What is cleared and nobody has taken, and how many bytes of it there were.
	cleared delta
	shown   int
	call    *toolCall
}

// stopError tells that the answer was stopped.
type stopError struct {
	update qwenguard.Update
	rule   string
}

func (e *stopError) Error() string {
	return fmt.Sprintf("%v, %s: %v", errRefused, e.rule, e.update.Violation.Risk)
}

func (e *stopError) Is(target error) bool { return target == errRefused }

func (j *judge) push(s segment) error {
	if s.text == "" {
		return nil
	}
	var update qwenguard.Update
	err := error(qwenguard.ErrWrongState)
	if !j.begun && (s.kind == reasoning || s.kind == reasoningContent) {
		update, err = j.stream.PushThinking(j.ctx, s.text)
	}
	// Also thinking that comes late, or that the guard's template has no place for.
	if errors.Is(err, qwenguard.ErrWrongState) {
		j.begun = true
		update, err = j.stream.PushText(j.ctx, s.text)
	}
	if err != nil {
		return err
	}
	j.held = append(j.held, s)
	return j.take(update)
}

// pushCall takes a part of a call. Calls come one after the other.
func (j *judge) pushCall(part toolCall) error {
	if part.Index == nil {
		return errors.New("tool_calls: no index")
	}
	if j.call == nil || *j.call.Index < *part.Index {
		if part.Function.Name == "" {
			return errors.New("tool_calls: a call without a name")
		}
		name := segment{kind: callName, text: part.Function.Name, call: part}
		for _, s := range []segment{{text: j.endOfCall() + callStart}, name, {text: callMiddle}} {
			if err := j.push(s); err != nil {
				return err
			}
		}
		j.call = &part
	} else if *j.call.Index != *part.Index || part.Function.Name != "" {
		return errors.New("tool_calls: not one after the other")
	}
	return j.push(segment{kind: callArguments, text: part.Function.Arguments, call: toolCall{Index: part.Index}})
}

func (j *judge) endOfCall() string {
	if j.call == nil {
		return ""
	}
	return callEnd
}

// finish ends the answer: what is not part of a violation is cleared.
func (j *judge) finish() error {
	if err := j.push(segment{text: j.endOfCall()}); err != nil {
		return err
	}
	update, err := j.stream.Finish(j.ctx)
	if err != nil {
		return err
	}
	j.ended = true
	return j.take(update)
}

func (j *judge) take(update qwenguard.Update) error {
	for len(j.held) > 0 && j.at < update.Horizon {
		s := &j.held[0]
		count := min(len(s.text), update.Horizon-j.at)
		if s.kind == callName && count < len(s.text) {
			break
		}
		j.cleared.add(s, s.text[:count])
		j.at += count
		if s.kind != only {
			j.shown += count
		}
		if s.text = s.text[count:]; s.text == "" {
			j.held = j.held[1:]
		}
	}
	if update.Decision != qwenguard.DecisionStop {
		return nil
	}
	rule, err := j.stream.Rule()
	if err != nil {
		return err
	}
	return &stopError{update, rule}
}
