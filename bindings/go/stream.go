package qwenguard

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
)

// Stream is one conversation being moderated: light, for one goroutine at a time. A second call at the same time, or one while
// a queue has the stream, fails with ErrInUse.
//
// Any call that computes can fail with ErrBusy if too many tokens wait, ErrOutOfMemory, ErrInference and ErrEngineStopped; with
// ErrCancelled or ErrDeadlineExceeded if its context ends. Every call but those that only tell something fails with ErrExpired
// once the stream was not used for the engine.idle_seconds of the configuration.
type Stream struct {
	handle  *handle[rawStream]
	cleanup runtime.Cleanup
	// The last call that can be cancelled, perhaps long done.
	submitted atomic.Pointer[submission]
	// Whether a Queue has the stream and did not give it back.
	queued atomic.Bool
}

func newStream(raw rawStream) *Stream {
	stream := &Stream{handle: &handle[rawStream]{raw: raw, free: streamFree}}
	stream.cleanup = runtime.AddCleanup(stream, (*handle[rawStream]).forget, stream.handle)
	return stream
}

// Close frees the stream, if it was not. A call that is going on with a context, or in a queue, is cancelled and comes back
// with ErrCancelled; another one comes to its end. It never fails.
func (s *Stream) Close() error {
	s.cleanup.Stop()
	s.handle.close()
	if submission := s.submitted.Load(); submission != nil {
		submission.cancel()
	}
	return nil
}

func (s *Stream) acquire() error {
	if err := s.acquireQueued(); err != nil {
		return err
	}
	if s.queued.Load() {
		s.handle.release()
		return inUse()
	}
	return nil
}

// acquireQueued is for the queue that has the stream.
func (s *Stream) acquireQueued() error {
	if !s.handle.acquire() {
		return closed("stream")
	}
	return nil
}

func (s *Stream) release() {
	s.handle.release()
	runtime.KeepAlive(s)
}

// Prompt gives the conversation, and judges its last message of the user; with prompt.roles = ["user", "tool"] in the
// policy the last message of either role.
//
// The conversation is rendered by the checkpoint's own template, thinking off. A message of the assistant at the end is the
// beginning of the answer: it is given to the model but not judged. On a stream that had a prompt this starts the next turn;
// only what differs from the conversation so far is computed.
//
// It fails with ErrArgument if a text is not UTF-8; ErrConversation if there is no message to judge, the template refuses the
// messages or leaves one out, as it does with roles that it does not know: the error names role and index, counted from 0;
// ErrContextFull if the prompt is longer than the model's context.
func (s *Stream) Prompt(ctx context.Context, messages ...Message) (PromptCheck, error) {
	return s.check(ctx, s.CallPrompt(messages...), streamPrompt)
}

// NextTurn goes on with the conversation after Finish: the messages so far, the answer as it was pushed, and these messages.
// The last of the user is judged, as Prompt says.
//
// It fails as Prompt does, with ErrWrongState before the end of the answer, and with ErrConversation also if the answer came
// as tokens and is not UTF-8.
func (s *Stream) NextTurn(ctx context.Context, messages ...Message) (PromptCheck, error) {
	return s.check(ctx, s.CallNextTurn(messages...), streamNextTurn)
}

// PushText gives the next piece of the answer, and judges its tokens. The piece may begin and end anywhere, even inside a
// character. After DecisionStop further text is still judged: stopping is yours to do.
//
// Thinking between <think> and </think> at the answer's beginning is found and judged by the policy's rules for thinking.
//
// It fails with ErrArgument if the text is not UTF-8 (the message says at which byte of the answer), has more than 1 MiB, or
// the bundle's tokenizer cannot take text in pieces; ErrWrongState before the prompt, after tokens or after the end of the
// answer; ErrContextFull if the text does not fit the model's context.
func (s *Stream) PushText(ctx context.Context, text string) (Update, error) {
	if ctx.Done() != nil {
		return s.awaitUpdate(ctx, s.CallPushText(text))
	}
	if err := s.acquire(); err != nil {
		return Update{}, err
	}
	defer s.release()
	return streamPushText(s.handle.raw, text)
}

// PushThinking is as PushText, for a piece of thinking from a host that knows it as such: no tag in it means anything. The first
// PushText ends the thinking.
//
// It fails as PushText does, and with ErrWrongState also if the answer has begun already or the template has no place for
// thinking.
func (s *Stream) PushThinking(ctx context.Context, text string) (Update, error) {
	if ctx.Done() != nil {
		return s.awaitUpdate(ctx, s.CallPushThinking(text))
	}
	if err := s.acquire(); err != nil {
		return Update{}, err
	}
	defer s.release()
	return streamPushThinking(s.handle.raw, text)
}

// PushTokens gives the next tokens of the answer, from a model with the guard's own vocabulary, and judges each of them. None of
// them is provisional. If the first is the tokenizer's <think>, thinking goes up to its </think>; the two tags and newlines
// right after them are not judged.
//
// It fails with ErrArgument for an id that is no token; ErrWrongState before the prompt, after text or after the end of the
// answer; ErrContextFull if the tokens do not fit the model's context.
func (s *Stream) PushTokens(ctx context.Context, ids []uint32) (Update, error) {
	if ctx.Done() != nil {
		return s.awaitUpdate(ctx, s.CallPushTokens(ids))
	}
	if err := s.acquire(); err != nil {
		return Update{}, err
	}
	defer s.release()
	return streamPushTokens(s.handle.raw, ids)
}

// Finish says that the answer is complete: what was provisional becomes final. Nothing can be pushed afterwards.
//
// It fails with ErrWrongState before the prompt or after the end of the answer; ErrArgument if the text ends inside a character
// (the message says at which byte); ErrContextFull.
func (s *Stream) Finish(ctx context.Context) (Update, error) {
	if ctx.Done() != nil {
		return s.awaitUpdate(ctx, s.CallFinish())
	}
	if err := s.acquire(); err != nil {
		return Update{}, err
	}
	defer s.release()
	return streamFinish(s.handle.raw)
}

// Truncate cuts the answer back to its first bytes, as if nothing after them had ever come; a violation after them is
// forgotten. For a host that lets its model try again from there.
//
// It fails with ErrArgument if the answer is shorter, or that is inside a character or, for pushed tokens, inside a token;
// ErrWrongState before the prompt.
func (s *Stream) Truncate(ctx context.Context, bytes int) (Update, error) {
	if err := notNegative("bytes", bytes); err != nil {
		return Update{}, err
	}
	if ctx.Done() != nil {
		return s.awaitUpdate(ctx, s.CallTruncate(bytes))
	}
	if err := s.acquire(); err != nil {
		return Update{}, err
	}
	defer s.release()
	return streamTruncate(s.handle.raw, bytes)
}

// TruncateTokens is as Truncate, to the answer's first tokens, as [TokenVerdict.Index] counts them. It fails with ErrArgument
// also if its text has no place between characters there.
func (s *Stream) TruncateTokens(ctx context.Context, tokens int) (Update, error) {
	if err := notNegative("tokens", tokens); err != nil {
		return Update{}, err
	}
	if ctx.Done() != nil {
		return s.awaitUpdate(ctx, s.CallTruncateTokens(tokens))
	}
	if err := s.acquire(); err != nil {
		return Update{}, err
	}
	defer s.release()
	return streamTruncateTokens(s.handle.raw, tokens)
}

// Fork gives another stream with the same conversation so far, which goes its own way from here and has to be closed too. It
// shares the cache of what is common, so that several drafts of an answer cost their own tokens only.
//
// It fails with ErrBusy if as many streams are open as the configuration allows.
func (s *Stream) Fork() (*Stream, error) {
	if err := s.acquire(); err != nil {
		return nil, err
	}
	defer s.release()
	raw, err := streamFork(s.handle.raw)
	if err != nil {
		return nil, err
	}
	return newStream(raw), nil
}

// ContextUsed tells how many tokens of the model's context the conversation uses so far, those of the template included.
func (s *Stream) ContextUsed() (int, error) {
	if err := s.acquire(); err != nil {
		return 0, err
	}
	defer s.release()
	return streamContextUsed(s.handle.raw)
}

// Tokens are those that the last update judged, in order; none if the last call that succeeded was not one with an update.
func (s *Stream) Tokens() ([]TokenVerdict, error) {
	if err := s.acquire(); err != nil {
		return nil, err
	}
	defer s.release()
	return tokenVerdicts(s.handle.raw)
}

// Flags are the places that the last update found flagged.
func (s *Stream) Flags() ([]Violation, error) {
	if err := s.acquire(); err != nil {
		return nil, err
	}
	defer s.release()
	return flags(s.handle.raw)
}

// Opinions are the second opinions that the last update asked for.
func (s *Stream) Opinions() ([]Opinion, error) {
	if err := s.acquire(); err != nil {
		return nil, err
	}
	defer s.release()
	return opinions(s.handle.raw)
}

// OpinionAnnotation is what one of the Opinions says, judged by the policy's rules for its channel. Its categories are those of
// the guard that was asked. Of an opinion that could not be had it is the error for which it could not. It fails with
// ErrArgument if there is no such opinion.
func (s *Stream) OpinionAnnotation(opinion int) (*Annotation, error) {
	if err := notNegative("opinion", opinion); err != nil {
		return nil, err
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	defer s.release()
	raw, err := streamOpinionAnnotation(s.handle.raw, opinion)
	if err != nil {
		return nil, err
	}
	return newAnnotation(raw)
}

// Rule is the rule of the policy that fired, by the names of its settings, such as "answer.strict: 2 consecutive": for the
// violation of the last update, or for what the last prompt's verdict found. It fails with ErrWrongState if the last call that
// succeeded found nothing.
func (s *Stream) Rule() (string, error) {
	if err := s.acquire(); err != nil {
		return "", err
	}
	defer s.release()
	return streamRule(s.handle.raw)
}

// FlagRule is as Rule, for one of the Flags. It fails with ErrArgument if there is no such flag.
func (s *Stream) FlagRule(flag int) (string, error) {
	if err := notNegative("flag", flag); err != nil {
		return "", err
	}
	if err := s.acquire(); err != nil {
		return "", err
	}
	defer s.release()
	return streamFlagRule(s.handle.raw, flag)
}

func (s *Stream) check(ctx context.Context, call Call,
	direct func(rawStream, []rawMessage) (PromptCheck, error)) (PromptCheck, error) {
	if ctx.Done() != nil {
		reply := call.await(ctx)
		if reply.Err != nil {
			return PromptCheck{}, reply.Err
		}
		return *reply.Check, nil
	}
	if err := s.acquire(); err != nil {
		return PromptCheck{}, err
	}
	defer s.release()
	return promptRaw(direct, s.handle.raw, call.messages)
}

func (s *Stream) awaitUpdate(ctx context.Context, call Call) (Update, error) {
	reply := call.await(ctx)
	if reply.Err != nil {
		return Update{}, reply.Err
	}
	return *reply.Update, nil
}

func notNegative(argument string, value int) error {
	if value < 0 {
		return &Error{Status: ErrArgument, Message: fmt.Sprintf("argument %s: %d is negative", argument, value)}
	}
	return nil
}
