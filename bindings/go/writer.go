package qwenguard

import (
	"context"
	"fmt"
	"io"
	"unsafe"
)

// Writer is an io.Writer for an answer: it has a stream judge what is written, and passes on to another writer what is cleared,
// up to the violation. For one goroutine at a time.
type Writer struct {
	ctx    context.Context
	stream *Stream
	to     io.Writer
	// What was judged and is not cleared. The bytes before it were passed on.
	held   []byte
	passed int
	err    error
}

// StopError tells that the guard stopped an answer. The stream is as it is after any violation: [Stream.Truncate] would let
// the model try again.
type StopError struct {
	// Update has the violation, and the horizon: how many bytes were passed on.
	Update Update
	// Rule is the rule of the policy that fired.
	Rule string
}

func (e *StopError) Error() string {
	return fmt.Sprintf("qwenguard: the answer was stopped at byte %d of %d: %s: %v",
		e.Update.Horizon, e.Update.Received, e.Rule, e.Update.Violation.Risk)
}

// NewWriter makes a writer of an answer whose prompt the stream has. The context is that of all writes.
func NewWriter(ctx context.Context, stream *Stream, to io.Writer) *Writer {
	return &Writer{ctx: ctx, stream: stream, to: to}
}

// Write judges the next piece of the answer, as [Stream.PushText] does, and passes on what is cleared. What is not is kept.
//
// It fails with a *StopError if the answer is stopped, then and ever after; what was cleared before the violation is passed on
// all the same. After an error of PushText nothing was added, and the same bytes may be written again.
func (w *Writer) Write(piece []byte) (int, error) {
	written := 0
	for w.err == nil && written < len(piece) {
		part := piece[written:min(len(piece), written+maxPush)]
		update, err := w.stream.PushText(w.ctx, unsafe.String(unsafe.SliceData(part), len(part)))
		if err != nil {
			return written, err
		}
		w.held = append(w.held, part...)
		w.pass(update)
		if w.err != nil {
			// Of this part, what was passed on.
			return written + max(0, len(part)-len(w.held)), w.err
		}
		written += len(part)
	}
	return written, w.err
}

// maxPush is what PushText takes at once.
const maxPush = 1 << 20

// Close ends the answer, as [Stream.Finish] does, and passes on the rest of it. It fails with a *StopError if the answer was
// stopped, by its end too. It closes neither the stream nor the writer that it passes on to.
func (w *Writer) Close() error {
	if w.err == errFinished {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	update, err := w.stream.Finish(w.ctx)
	if err != nil {
		return err
	}
	w.pass(update)
	if w.err != nil {
		return w.err
	}
	w.err = errFinished
	return nil
}

var errFinished = fmt.Errorf("qwenguard: writer %w", ErrClosed)

// pass passes on what is cleared.
func (w *Writer) pass(update Update) {
	cleared := max(0, update.Horizon-w.passed)
	if cleared > 0 {
		count, err := w.to.Write(w.held[:cleared])
		if err == nil && count < cleared {
			err = io.ErrShortWrite
		}
		w.passed += count
		w.held = append(w.held[:0], w.held[count:]...)
		w.err = err
	}
	if w.err == nil && update.Decision == DecisionStop {
		rule, err := w.stream.Rule()
		w.err = &StopError{update, rule}
		if err != nil {
			w.err = err
		}
	}
}
