package qwenguard

import (
	"context"
	"time"
)

// Call is one call of a stream as a value, for [CallAll] and [Queue]. The methods of Stream that begin with Call make it. What
// it is made of must not change until it was made.
type Call struct {
	stream   *Stream
	kind     uint32
	text     string
	ids      []uint32
	messages []Message
	// How much of the answer stays.
	keep int
	// Of an annotation, which has no stream.
	annotates bool
	guard     *Guard
	options   AnnotateOptions
}

// CallPrompt is a call of Prompt.
func (s *Stream) CallPrompt(messages ...Message) Call {
	return Call{stream: s, kind: callPrompt, messages: messages}
}

// CallNextTurn is a call of NextTurn.
func (s *Stream) CallNextTurn(messages ...Message) Call {
	return Call{stream: s, kind: callNextTurn, messages: messages}
}

// CallPushText is a call of PushText.
func (s *Stream) CallPushText(text string) Call {
	return Call{stream: s, kind: callPushText, text: text}
}

// CallPushThinking is a call of PushThinking.
func (s *Stream) CallPushThinking(text string) Call {
	return Call{stream: s, kind: callPushThinking, text: text}
}

// CallPushTokens is a call of PushTokens.
func (s *Stream) CallPushTokens(ids []uint32) Call {
	return Call{stream: s, kind: callPushTokens, ids: ids}
}

// CallFinish is a call of Finish.
func (s *Stream) CallFinish() Call { return Call{stream: s, kind: callFinish} }

// CallTruncate is a call of Truncate.
func (s *Stream) CallTruncate(bytes int) Call {
	return Call{stream: s, kind: callTruncate, keep: bytes}
}

// CallTruncateTokens is a call of TruncateTokens.
func (s *Stream) CallTruncateTokens(tokens int) Call {
	return Call{stream: s, kind: callTruncateTokens, keep: tokens}
}

// check is an error if there is no such call.
func (c *Call) check() error {
	switch {
	case c.annotates && c.guard == nil:
		return &Error{Status: ErrNull, Message: "argument guard: NULL"}
	case c.annotates:
		return nil
	case c.stream == nil:
		return noStream()
	case c.kind == callTruncate:
		return notNegative("bytes", c.keep)
	case c.kind == callTruncateTokens:
		return notNegative("tokens", c.keep)
	}
	return nil
}

// Reply is what a call or an annotation answers. One of its fields is there.
type Reply struct {
	// Err is why the call failed.
	Err error
	// Check is for Prompt and NextTurn.
	Check *PromptCheck
	// Update is for all other calls of a stream.
	Update *Update
	// Annotation is for [Guard.AnnotateAll] and [Queue.Annotate].
	Annotation *Annotation
}

// CallAll makes a call of each of many streams and waits for all of them. The model takes them together, which is much faster
// than one after the other. Replies are in the order of the calls; one that fails leaves the others alone, and a second call
// of the same stream fails with ErrInUse. When the context ends, those that are not done are cancelled, also while the model
// computes them. CallAll itself fails only if there is no memory for the calls.
func CallAll(ctx context.Context, calls ...Call) ([]Reply, error) {
	if ctx.Done() != nil {
		return awaitAll(ctx, calls), nil
	}
	raw := make([]rawStream, len(calls))
	refused := make(map[int]error)
	for index := range calls {
		call := &calls[index]
		if err := call.acquire(); err != nil {
			refused[index] = err
			continue
		}
		defer call.stream.release()
		raw[index] = call.stream.handle.raw
	}
	replies, err := callAll(raw, calls)
	if err != nil {
		return nil, err
	}
	for index, err := range refused {
		replies[index] = Reply{Err: err}
	}
	return replies, nil
}

// awaitAll is CallAll with a context that can end.
func awaitAll(ctx context.Context, calls []Call) []Reply {
	awaited := make([]*awaitedCall, len(calls))
	replies := make([]Reply, len(calls))
	seen := make(map[*Stream]bool, len(calls))
	for index := range calls {
		call := &calls[index]
		if call.stream != nil && seen[call.stream] {
			replies[index].Err = inUse()
			continue
		}
		seen[call.stream] = true
		awaited[index], replies[index].Err = call.start(ctx)
	}
	for index, call := range awaited {
		if call != nil {
			replies[index] = call.wait(ctx)
		}
	}
	return replies
}

func (c *Call) acquire() error {
	if err := c.check(); err != nil {
		return err
	}
	return c.stream.acquire()
}

// begin gives the call to a queue of the library.
func (c *Call) begin(queue rawQueue, ticket uint64, timeout time.Duration) error {
	if !c.annotates {
		return submit(queue, c.stream.handle.raw, c, ticket, timeout)
	}
	if err := c.guard.acquire(); err != nil {
		return err
	}
	defer c.guard.release()
	return submitAnnotation(queue, c, ticket, timeout)
}

func noStream() error { return &Error{Status: ErrNull, Message: "argument call: it has no stream"} }

// await makes the call and waits for it while the context lasts. It keeps no thread waiting.
func (c *Call) await(ctx context.Context) Reply {
	awaited, err := c.start(ctx)
	if err != nil {
		return Reply{Err: err}
	}
	return awaited.wait(ctx)
}

// awaitedCall is one that somebody waits for.
type awaitedCall struct {
	submission *submission
	done       chan Reply
}

func (c *Call) start(ctx context.Context) (*awaitedCall, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	if c.stream != nil && c.stream.queued.Load() {
		return nil, inUse()
	}
	calls, err := sharedCalls()
	if err != nil {
		return nil, err
	}
	done := make(chan Reply, 1)
	submission, err := calls.submit(c, 0, NoTimeout, func(reply Reply) { done <- reply })
	if err != nil {
		return nil, err
	}
	return &awaitedCall{submission, done}, nil
}

func (a *awaitedCall) wait(ctx context.Context) Reply {
	select {
	case reply := <-a.done:
		return reply
	case <-ctx.Done():
		a.submission.cancel()
	}
	reply := <-a.done
	if failure, ok := reply.Err.(*Error); ok && failure.Status == ErrCancelled {
		reply.Err = ended(ctx)
	}
	return reply
}
